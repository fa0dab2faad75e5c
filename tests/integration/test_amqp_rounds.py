"""A round of a link: what has come, and what is asked of the broker, at the same moment."""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from amqp import Message

from shared.broker.amqp.connection import LinkOptions, connect
from shared.broker.amqp.link import Link
from tests.support.pipeline import eventually
from tests.support.rabbitmq import ForeignServer, RabbitNode

pytestmark = pytest.mark.rabbitmq

HEARTBEAT = 60.0
"""Seconds: nothing else comes from the broker while a test waits."""
PATIENCE = 10.0


class Asking:
    """Consumes, and asks the broker a question for each command, which is then done.

    Between two rounds the thread stands still until `go`.
    """

    def __init__(self) -> None:
        self.connection: Any = None
        self.queue = ""
        self.received: list[Any] = []
        self.stands = threading.Event()
        self.go = threading.Event()

    def opened(self, connection: Any) -> None:
        self.connection = connection
        self._channel = connection.channel()
        self.queue = self._channel.queue_declare(exclusive=False, auto_delete=True).queue
        self._channel.basic_consume(self.queue, no_ack=True, callback=self.received.append)

    def perform(self, commands: Sequence[threading.Event]) -> None:
        for done in commands:
            self._channel.basic_qos(0, 1, False)
            done.set()

    def tick(self, *, blocked: bool) -> None:
        self.stands.set()
        self.go.wait(PATIENCE)

    def leave(self) -> Iterator[float]:
        yield from ()

    def lost(self) -> None:
        """Nothing to do."""

    async def has_come(self) -> None:
        """Return once something lies in the socket that nobody has read."""
        poll = select.poll()
        poll.register(self.connection.transport.sock, select.POLLIN)

        async def readable() -> bool:
            return bool(poll.poll(0))

        await eventually(readable, "the message is there")


async def test_an_answer_that_brings_along_what_had_come_does_not_stop_the_thread(
    rabbitmq: RabbitNode | ForeignServer,
) -> None:
    """Else it waits in the next read until the broker says something, and settles nothing."""
    options = LinkOptions(rabbitmq.new_vhost(), "rounds", HEARTBEAT)
    work = Asking()
    link = Link[threading.Event](options, work, asyncio.get_running_loop())
    link.start()
    assert await asyncio.to_thread(work.stands.wait, PATIENCE)
    with connect(options) as other:
        other.channel().basic_publish(Message("x"), routing_key=work.queue)
        await work.has_come()

        first, second = threading.Event(), threading.Event()
        link.commands.submit(first)
        await asyncio.sleep(0)  # it is handed over at the end of a turn of the loop
        work.go.set()
        assert await asyncio.to_thread(first.wait, PATIENCE)
        link.commands.submit(second)
        assert await asyncio.to_thread(second.wait, PATIENCE)
    assert len(work.received) == 1
    await link.stop(PATIENCE)
