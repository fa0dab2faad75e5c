"""What the consuming connection does: a channel for each consumer, settlements in batches.

Each time a subscription begins to consume, on a new connection or again on this one, it gets a
generation. Settlements carry theirs, so that a tag of an old channel can never settle a message of
a new one. A channel error costs the connection: which consumers it has cost is not worth a guess.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from amqp import spec

from shared.broker.amqp.connection import MEND_SECONDS, declare
from shared.broker.amqp.handover import tell
from shared.broker.topology import Topology
from shared.logs import get_logger

NACK_UNCOUNTED = (4, 3)
"""From this version on, a nack that requeues does not count towards the delivery limit."""


class Verb(Enum):
    """What can be done to a delivery on its own channel."""

    ACK = auto()
    FAILED = auto()
    REQUEUE = auto()


@dataclass(slots=True)
class Settle:
    """One settlement; stale ones are dropped."""

    subscription: Subscription
    generation: int
    tag: int
    verb: Verb


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Begin to consume."""

    subscription: Subscription


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take no more; `done` ends when the broker sends no more."""

    subscription: Subscription
    done: asyncio.Future[None]


Command = Settle | Subscribe | Cancel


@dataclass(slots=True, eq=False)
class Subscription:
    """One consumption of one queue. After the first three, the thread's; the loop reads on."""

    queue: str
    prefetch: int
    deliver: Callable[[list[Any], int], None]
    generation: int = 0
    """Of the deliveries that may be settled; 0 while there is no channel."""
    channel: Any = None
    tag: str = ""
    stopped: bool = False
    mend_at: float | None = None
    """When to consume again (monotonic seconds), once the broker has ended it unasked."""
    arrived: list[Any] = field(default_factory=list)
    unsettled: OrderedDict[int, None] = field(default_factory=OrderedDict)
    """Tags in the broker's order."""
    acknowledged: set[int] = field(default_factory=set)
    """Of this round, not written yet."""

    def begin(self, channel: Any, generation: int) -> None:
        """Everything of the former channel is void."""
        self.channel = channel
        self.generation = generation
        self.mend_at = None
        self.arrived = []
        self.unsettled = OrderedDict()
        self.acknowledged = set()

    def received(self, message: Any) -> None:
        """A delivery has arrived."""
        self.unsettled[message.delivery_info["delivery_tag"]] = None
        self.arrived.append(message)

    def on_cancel(self, _tag: str) -> None:
        """The queue was deleted, lost its leader, or a delivery was held too long (4.3)."""
        get_logger().error("the broker has ended a consumer", queue=self.queue)
        self.mend_at = time.monotonic() + MEND_SECONDS


class Consuming:
    """The work of the consuming link. Runs on its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, topology: Topology) -> None:
        self._loop = loop
        self._topology = topology
        self._connection: Any = None
        self._subscriptions: list[Subscription] = []
        self._generations = itertools.count(1)
        self.counts_nacks = True
        """Whether this server counts a requeueing nack as a failed try."""

    def opened(self, connection: Any) -> None:
        """See `Work.opened`."""
        self._connection = connection
        self.counts_nacks = _version(connection) < NACK_UNCOUNTED
        for subscription in self._subscriptions:
            self._consume(subscription)

    def _consume(self, subscription: Subscription) -> None:
        if subscription.stopped:
            return
        channel = self._connection.channel()
        channel.auto_decode = False
        channel.basic_qos(0, subscription.prefetch, False)
        subscription.begin(channel, next(self._generations))
        subscription.tag = channel.basic_consume(
            subscription.queue, callback=subscription.received, on_cancel=subscription.on_cancel
        )

    def perform(self, commands: Sequence[Command]) -> None:
        """See `Work.perform`."""
        for command in commands:
            if isinstance(command, Settle):
                self._settle(command)
            elif isinstance(command, Subscribe):
                self._subscriptions.append(command.subscription)
                if self._connection is not None:
                    self._consume(command.subscription)
            else:
                self._cancel(command)
        for subscription in self._subscriptions:
            if subscription.acknowledged:
                _acknowledge(subscription)

    def _settle(self, command: Settle) -> None:
        subscription, tag = command.subscription, command.tag
        # custody: a tag of an older channel would settle somebody else's message.
        if command.generation != subscription.generation or tag not in subscription.unsettled:
            return
        if command.verb is Verb.ACK:
            subscription.acknowledged.add(tag)
            return
        del subscription.unsettled[tag]
        if command.verb is Verb.FAILED:
            subscription.channel.basic_reject(tag, requeue=True)
        else:
            subscription.channel.send_method(spec.Basic.Nack, "Lbb", (tag, False, True))

    def _cancel(self, command: Cancel) -> None:
        subscription = command.subscription
        subscription.stopped = True
        if subscription.channel is not None and subscription.mend_at is None:
            subscription.channel.basic_cancel(subscription.tag)
        self._hand_over(subscription)
        tell(self._loop, _end, command.done)

    def tick(self, *, blocked: bool) -> None:
        """See `Work.tick`. A connection that publishes nothing is never blocked."""
        for subscription in self._subscriptions:
            self._hand_over(subscription)
            if subscription.mend_at is not None and subscription.mend_at <= time.monotonic():
                self._renew(subscription)

    def _renew(self, subscription: Subscription) -> None:
        # What came over the old channel goes back to the queue with it.
        old = subscription.channel
        subscription.begin(None, 0)
        old.close()
        if not subscription.stopped:
            declare(self._connection, self._topology)
            self._consume(subscription)

    def _hand_over(self, subscription: Subscription) -> None:
        if subscription.arrived:
            arrived, subscription.arrived = subscription.arrived, []
            tell(self._loop, subscription.deliver, arrived, subscription.generation)

    def lost(self) -> None:
        """See `Work.lost`. The broker has taken back whatever was not settled."""
        self._connection = None
        for subscription in self._subscriptions:
            subscription.begin(None, 0)


def _acknowledge(subscription: Subscription) -> None:
    """One frame for the longest run from the oldest delivery on, one each for the others."""
    unsettled, acknowledged = subscription.unsettled, subscription.acknowledged
    subscription.acknowledged = set()
    last = 0
    while unsettled and (oldest := next(iter(unsettled))) in acknowledged:
        last = oldest
        del unsettled[oldest]
        acknowledged.discard(oldest)
    if last:
        subscription.channel.basic_ack(last, multiple=True)
    for tag in acknowledged:
        del unsettled[tag]
        subscription.channel.basic_ack(tag)


def _version(connection: Any) -> tuple[int, ...]:
    text = connection.server_properties.get("version", "0.0")
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
