"""What one process declares on RabbitMQ: its queues, and on record which lane queues there are.

AMQP cannot list queues, so a queue of a former plan would be found by nobody. The lane queues that
were ever declared are therefore on record in a queue of their own, as the body of one message.
Everything here blocks and is called on a thread.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import uuid
from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from amqp import spec
from amqp.basic_message import Message
from amqp.exceptions import NotFound, PreconditionFailed

from shared.broker.amqp.attendance import attend
from shared.broker.amqp.differing import DifferingError, differences, judge
from shared.broker.migration import Difference
from shared.broker.topology import FIRST_LANES, Queue, Topology, amqp_arguments
from shared.logs import get_logger

DECLARING_CHANNELS = 4
"""A fresh quorum queue costs some 13 ms one by one, and 7 over this many channels (3.10.8).

More channels make it slower again: docs/decisions/0009-many-queues-and-one-active-consumer.md.
"""

PLANS = "postroad.plans"
"""The queue of the record. Not in the topology: nothing travels through it."""
RECORD_SECONDS = 1.0
"""How long to wait for a record that another process holds at the moment."""
_LOOK_SECONDS = 0.05
FENCE_EXPIRES_MS = 60_000
"""A fence that its maker did not live to delete goes by itself."""


def declare(connection: Any, queues: Collection[Queue]) -> None:
    """Declare queues, idempotently. Raises py-amqp's errors, also for other arguments.

    Nobody waits for the single answers: a channel that answers has done what it was asked before.
    """
    channels = [connection.channel() for _ in range(min(DECLARING_CHANNELS, len(queues)))]
    connection.transport.hold()
    for queue, channel in zip(queues, itertools.cycle(channels), strict=False):
        arguments = dict(amqp_arguments(queue))
        channel.queue_declare(
            queue.name, durable=True, auto_delete=False, nowait=True, arguments=arguments
        )
    for channel in channels:
        channel.basic_qos(0, 1, False)  # a close would not tell of an error
        channel.close()


def declare_one_by_one(connection: Any, queues: Iterable[Queue]) -> list[Difference]:
    """Declare queues of which some differ; returns in what."""
    return [one for queue in queues for one in differences(connection, queue)]


class Declaration:
    """Declares for all connections of a process: once, and anew after one of them was lost."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._lock = threading.Lock()
        self._declared = False
        self._recorded = not topology.lanes()
        self._fenced = False
        self._differ = False
        self._told: frozenset[Difference] = frozenset()

    def ensure(self, connection: Any) -> None:
        """Attend, and declare what is not declared yet; a thread that does so is waited for.

        Raises `MigratingError`, and `DifferingError` when a queue has arguments that endanger mail.
        """
        attend(connection)
        with self._lock:
            if not self._declared:
                self._declare(connection)
                self._declared = True

    def ensure_lasting(self, connection: Any) -> None:
        """Also put the lanes on record, and fence all: before anything is published to them."""
        self.ensure(connection)
        if not self._recorded:
            record(connection, self._topology.lanes())
            self._recorded = True
        if not self._fenced:
            fence(connection)
            self._fenced = True

    def renew(self, connection: Any) -> None:
        """Declare all again: a queue is missing."""
        with self._lock:
            self._declare(connection)
        fence(connection)

    def _declare(self, connection: Any) -> None:
        if self._differ:
            self._judge(declare_one_by_one(connection, self._topology.queues))
            return
        try:
            declare(connection, self._topology.queues)
        except PreconditionFailed as error:
            # Other channels may have errors on their way: only a new connection is sure of itself.
            self._differ = True
            raise DifferingError("a queue has other arguments: looking which") from error

    def _judge(self, found: Collection[Difference]) -> None:
        """Each difference is told once; one that endangers mail keeps us from the broker."""
        told, self._told = self._told, frozenset(found)
        self._differ = bool(found)
        judge(found, told)

    def doubt(self) -> None:
        """A connection was lost: the broker may have lost its queues, or be another one."""
        self._declared = self._fenced = False
        self._recorded = not self._topology.lanes()


def fence(connection: Any) -> None:
    """Return when a broker that is killed will know every queue that was declared before.

    RabbitMQ writes down late where the log of a quorum queue is. Killed within about a second of
    the declaration, it begins the newest queue anew, empty and with no leader for ever, whatever it
    had confirmed there (tried on 3.10.8; rabbitmq-server issue 15725 has it of 4.x). One more
    declaration makes it write.
    """
    channel = connection.channel()
    name = f"postroad.fence.{uuid.uuid4().hex}"
    arguments = {"x-queue-type": "quorum", "x-expires": FENCE_EXPIRES_MS}
    channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
    channel.queue_delete(name)
    channel.close()


def record(connection: Any, lanes: Iterable[str], patience: float = 0.0) -> frozenset[str]:
    """Add `lanes` to the record; returns all that is on it.

    Whoever reads writes the union before it takes away what it read, so nothing is forgotten,
    whoever reads at the same time. Read again as it is, it would be dropped by the delivery limit
    of RabbitMQ 4. Waits up to `patience` seconds for a record that another reader holds.
    """
    channel = connection.channel()
    channel.auto_decode = False
    arguments = {"x-queue-type": "quorum"}
    channel.queue_declare(PLANS, durable=True, auto_delete=False, arguments=arguments)
    channel.confirm_select()
    found = _get_all(channel, patience)
    known = frozenset(lanes).union(*(_decode(message.body) for message in found))
    if known:
        # custody: the union is confirmed; only then may its parts go.
        _publish(channel, msgspec.msgpack.encode(sorted(known)))
    if found:
        channel.basic_ack(found[-1].delivery_tag, multiple=True)
    channel.close()
    return known


def _get_all(channel: Any, patience: float) -> list[Any]:
    until = time.monotonic() + patience
    found = list(iter(lambda: channel.basic_get(PLANS), None))
    while not found and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
        found = list(iter(lambda: channel.basic_get(PLANS), None))
    return found


def _decode(body: bytes) -> list[str]:
    try:
        return msgspec.msgpack.decode(body, type=list[str])
    except msgspec.DecodeError as error:
        get_logger().error("a record of former plans is unreadable", error=str(error))
        return []


def _publish(channel: Any, body: bytes) -> None:
    confirmed: list[int] = []
    channel.events["basic_ack"].add(lambda tag, _multiple: confirmed.append(tag))
    arguments = (0, "", PLANS, False, False)
    channel.send_method(spec.Basic.Publish, "Bssbb", arguments, Message(body, delivery_mode=2))
    channel.wait([spec.Basic.Ack, spec.Basic.Nack])
    if not confirmed:
        raise ConnectionAbortedError("the broker refused the record of the lanes")


def left_over(connection: Any, topology: Topology) -> list[str]:
    """The lane queues that exist, and are not in `topology`."""
    known = record(connection, topology.lanes(), RECORD_SECONDS) | FIRST_LANES
    return list(_depths(connection, sorted(known - topology.names())))


def count(connection: Any, queues: Iterable[str]) -> dict[str, int]:
    """Messages ready in each queue, 0 for one that is missing."""
    return dict.fromkeys(queues, 0) | _depths(connection, queues)


def _depths(connection: Any, queues: Iterable[str]) -> dict[str, int]:
    """Messages ready in each of `queues` that exists."""
    channel = connection.channel()
    depths = {}
    for queue in queues:
        # A queue that is missing closes the channel; py-amqp opens it again by itself.
        with contextlib.suppress(NotFound):
            depths[queue] = int(channel.queue_declare(queue, passive=True).message_count)
    channel.close()
    return depths
