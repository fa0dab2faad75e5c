"""Queues as another release, or a person, declared them; and what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amqp.basic_message import Message

from shared.broker.amqp.connection import LinkOptions, connect
from shared.broker.amqp.declaring import fence
from shared.broker.topology import Queue, amqp_arguments


def declare_otherwise(connection: Any, queue: Queue, **arguments: Any) -> None:
    """Declare `queue` with these arguments changed (dashes as underscores); None: without it."""
    changed = {name.replace("_", "-"): value for name, value in arguments.items()}
    wanted = {**amqp_arguments(queue), **changed}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    channel = connection.channel()
    channel.queue_declare(queue.name, durable=True, auto_delete=False, arguments=wanted)
    channel.close()
    fence(connection)


def fill(connection: Any, queue: str, names: Sequence[str]) -> None:
    """Put one message a name into a queue."""
    channel = connection.channel()
    channel.confirm_select()
    for name in names:
        headers = {"x-postroad-reason": "test"}
        message = Message(
            name.encode(), message_id=name, delivery_mode=2, application_headers=headers
        )
        channel.basic_publish_confirm(message, routing_key=queue)
    channel.close()


def contents(url: str, queues: Sequence[str]) -> list[str]:
    """The ids of all messages in those of `queues` that are there, taken out."""
    connection = connect(LinkOptions(url, "contents", 60))
    try:
        return [name for queue in queues for name in _taken(connection, queue)]
    finally:
        connection.collect()


def _taken(connection: Any, queue: str) -> list[str]:
    channel = connection.channel()
    channel.auto_decode = False
    found = []
    while (message := channel.basic_get(queue)) is not None:
        assert message.properties["message_id"].encode() == message.body
        assert message.headers["x-postroad-reason"] == "test"
        found.append(str(message.properties["message_id"]))
        channel.basic_ack(message.delivery_tag)
    return found
