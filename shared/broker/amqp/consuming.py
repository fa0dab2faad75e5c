"""What the consuming connection does: a channel for each consumer, settlements in batches.

A connection error, a channel error and a cancelled consumer all end the same way: the link drops
the connection and opens a new one. Settlements carry the generation they belong to, so that a tag
of an old connection can never settle a message of a new one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from amqp import spec

from shared.broker.amqp.link import Link, tell

NACK_UNCOUNTED = (4, 3)
"""From this version on, a nack that requeues does not count towards the delivery limit."""


class Verb(Enum):
    """What can be done to a delivery on its own connection."""

    ACK = auto()
    FAILED = auto()
    REQUEUE = auto()


@dataclass(frozen=True, slots=True)
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
    """One consumption of one queue; all but the first three belong to the thread."""

    queue: str
    prefetch: int
    deliver: Callable[[list[Any], int], None]
    channel: Any = None
    tag: str = ""
    arrived: list[Any] = field(default_factory=list)
    unsettled: OrderedDict[int, bool] = field(default_factory=OrderedDict)
    """Tags in the broker's order; True once acknowledged but behind one that is not."""

    def received(self, message: Any) -> None:
        """A delivery has arrived."""
        self.unsettled[message.delivery_info["delivery_tag"]] = False
        self.arrived.append(message)


class Consuming:
    """The work of the consuming link. Runs on its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._connection: Any = None
        self._subscriptions: list[Subscription] = []
        self.link: Link[Command] | None = None
        self.counts_nacks = True
        """Whether this server counts a requeueing nack as a failed try."""

    def opened(self, connection: Any) -> None:
        """See `Work.opened`."""
        self._connection = connection
        self.counts_nacks = _version(connection) < NACK_UNCOUNTED
        for subscription in self._subscriptions:
            self._consume(subscription)

    def _consume(self, subscription: Subscription) -> None:
        # A wait for the broker's answer needs the request to be on its way.
        self._connection.transport.flush()
        channel = self._connection.channel()
        channel.auto_decode = False
        channel.basic_qos(0, subscription.prefetch, False)
        subscription.channel = channel
        subscription.arrived = []
        subscription.unsettled = OrderedDict()
        subscription.tag = channel.basic_consume(
            subscription.queue, callback=subscription.received, on_cancel=_on_cancel
        )

    def perform(self, commands: Sequence[Command]) -> None:
        """See `Work.perform`."""
        touched: dict[int, Subscription] = {}
        for command in commands:
            if isinstance(command, Settle):
                self._settle(command)
                touched[id(command.subscription)] = command.subscription
            elif isinstance(command, Subscribe):
                self._subscriptions.append(command.subscription)
                if self._connection is not None:
                    self._consume(command.subscription)
            else:
                self._cancel(command)
        for subscription in touched.values():
            self._acknowledge(subscription)

    def _settle(self, command: Settle) -> None:
        unsettled = command.subscription.unsettled
        # custody: a tag of an older connection would settle somebody else's message.
        if not self._is_current(command.generation) or command.tag not in unsettled:
            return
        if command.verb is Verb.ACK:
            unsettled[command.tag] = True
            return
        del unsettled[command.tag]
        channel = command.subscription.channel
        if command.verb is Verb.FAILED:
            channel.basic_reject(command.tag, requeue=True)
        else:
            channel.send_method(spec.Basic.Nack, "Lbb", (command.tag, False, True))

    def _is_current(self, generation: int) -> bool:
        return self.link is not None and self.link.generation == generation

    def _acknowledge(self, subscription: Subscription) -> None:
        """One frame for the longest run from the oldest delivery on, one each for the others."""
        if subscription.channel is None:
            return
        unsettled = subscription.unsettled
        last = 0
        while unsettled and unsettled[next(iter(unsettled))]:
            last = unsettled.popitem(last=False)[0]
        if last:
            subscription.channel.basic_ack(last, multiple=True)
        for tag in [tag for tag, acknowledged in unsettled.items() if acknowledged]:
            del unsettled[tag]
            subscription.channel.basic_ack(tag)

    def _cancel(self, command: Cancel) -> None:
        subscription = command.subscription
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        if subscription.channel is not None:
            self._connection.transport.flush()
            subscription.channel.basic_cancel(subscription.tag)
        self._hand_over(subscription)
        tell(self._loop, _end, command.done)

    def tick(self) -> None:
        """See `Work.tick`."""
        for subscription in self._subscriptions:
            self._hand_over(subscription)

    def _hand_over(self, subscription: Subscription) -> None:
        if subscription.arrived and self.link is not None:
            arrived, subscription.arrived = subscription.arrived, []
            tell(self._loop, subscription.deliver, arrived, self.link.generation)

    def lost(self) -> None:
        """See `Work.lost`. The broker has taken back whatever was not settled."""
        self._connection = None
        for subscription in self._subscriptions:
            subscription.channel = None
            subscription.arrived = []
            subscription.unsettled = OrderedDict()


def _on_cancel(consumer_tag: str) -> None:
    raise ConnectionAbortedError(f"the broker cancelled the consumer {consumer_tag}")


def _version(connection: Any) -> tuple[int, ...]:
    text = connection.server_properties.get("version", "0.0")
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
