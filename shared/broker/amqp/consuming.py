"""What the consuming connection does: a channel for each consumer, settlements in batches.

Each time a subscription begins to consume, on a new connection or again on this one, it gets a
generation. Settlements carry theirs, so that a tag of an old channel can never settle a message of
a new one. A channel error costs the connection: which consumers it has cost is not worth a guess.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from amqp import spec
from amqp.exceptions import NotFound, ResourceError

from shared.broker.amqp.connection import MEND_SECONDS
from shared.broker.amqp.declaring import Declaration
from shared.broker.amqp.handover import tell
from shared.broker.amqp.settling import Parting, acknowledge
from shared.broker.amqp.subscription import Cancel, Command, Settle, Subscription, Verb
from shared.broker.amqp.version import NACK_UNCOUNTED, Version, may_forget_retries, server_version
from shared.broker.topology import Topology
from shared.logs import get_logger

ABSENT_SECONDS = 10.0
"""How often to look for a queue that we do not declare: a left-over one that somebody deleted."""


class Consuming:
    """The work of the consuming link. Runs on its thread.

    A process may have hundreds of subscriptions: a round costs as much as those it touches.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, topology: Topology, declaration: Declaration
    ) -> None:
        self._loop = loop
        self._topology = topology
        self._declaration = declaration
        self._connection: Any = None
        self._subscriptions: dict[Subscription, None] = {}
        self._arrived: dict[Subscription, list[Any]] = {}
        self._mending: dict[Subscription, float] = {}
        """When to consume again (monotonic seconds) what the broker has ended unasked."""
        self._parting = Parting()
        self._generations = itertools.count(1)
        self.counts_nacks = True
        """Whether this server counts a requeueing nack as a failed try."""
        self._warned = False

    def opened(self, connection: Any) -> None:
        """See `Work.opened`."""
        self._declaration.ensure(connection)
        self._connection = connection
        self._note_version(server_version(connection))
        for subscription in self._subscriptions:
            self._consume(subscription)

    def _note_version(self, version: Version) -> None:
        self.counts_nacks = version < NACK_UNCOUNTED
        if may_forget_retries(version) and not self._warned:
            self._warned = True
            get_logger().warning(
                "retries may stop in this RabbitMQ until it is restarted: take 3.10.20 or 3.11.12",
                version=".".join(map(str, version)),
            )

    def _consume(self, subscription: Subscription) -> None:
        channel = None
        try:
            channel = self._connection.channel()
            channel.auto_decode = False
            channel.basic_qos(0, subscription.prefetch, False)
            subscription.begin(channel, next(self._generations))
            subscription.tag = channel.basic_consume(
                subscription.queue,
                callback=partial(self._received, subscription),
                on_cancel=partial(self._on_cancel, subscription),
            )
        except (NotFound, ResourceError) as error:
            # No such queue, or as many channels as the broker allows: the others go on.
            get_logger().error("cannot consume", queue=subscription.queue, error=str(error))
            subscription.begin(channel, 0)
            self._mend_later(subscription)

    def _received(self, subscription: Subscription, message: Any) -> None:
        subscription.unsettled[message.delivery_info["delivery_tag"]] = None
        self._arrived.setdefault(subscription, []).append(message)

    def _on_cancel(self, subscription: Subscription, _tag: str) -> None:
        """The queue was deleted, lost its leader, or a delivery was held too long (4.3)."""
        get_logger().error("the broker has ended a consumer", queue=subscription.queue)
        self._mend_later(subscription)

    def _mend_later(self, subscription: Subscription) -> None:
        declared = subscription.queue in self._topology.names()
        wait = MEND_SECONDS if declared else ABSENT_SECONDS
        self._mending[subscription] = time.monotonic() + wait

    def perform(self, commands: Sequence[Command]) -> None:
        """See `Work.perform`."""
        touched: dict[Subscription, None] = {}
        for command in commands:
            touched[command.subscription] = None
            if isinstance(command, Settle):
                self._settle(command)
            elif isinstance(command, Cancel):
                self._cancel(command)
            else:
                self._subscriptions[command.subscription] = None
                if self._connection is not None:
                    self._consume(command.subscription)
        for subscription in touched:
            if subscription.stopped:
                self._part(subscription)
            elif subscription.acknowledged:
                acknowledge(subscription)

    def _part(self, subscription: Subscription) -> None:
        self._parting.acknowledge(subscription, time.monotonic())
        if not subscription.unsettled:
            self._retire(subscription)

    def _settle(self, command: Settle) -> None:
        subscription, tag = command.subscription, command.tag
        # custody: a tag of an older channel would settle somebody else's message.
        if command.generation != subscription.generation or tag not in subscription.unsettled:
            return
        if tag in subscription.acknowledged:
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
        ended = self._mending.pop(subscription, None) is not None
        if subscription.channel is not None and not ended:
            subscription.channel.basic_cancel(subscription.tag)
        self._hand_over(subscription, self._arrived.pop(subscription, []))
        tell(self._loop, _end, command.done)

    def _retire(self, subscription: Subscription) -> None:
        """Its last delivery is settled: the channel may go, and be another's."""
        self._subscriptions.pop(subscription, None)
        channel = subscription.channel
        subscription.begin(None, 0)
        if channel is not None:
            channel.close()

    def tick(self, *, blocked: bool) -> None:
        """See `Work.tick`. A connection that publishes nothing is never blocked."""
        if self._arrived:
            arrived, self._arrived = self._arrived, {}
            for subscription, messages in arrived.items():
                self._hand_over(subscription, messages)
        for subscription in self._parting.due(time.monotonic()):
            self._part(subscription)
        if self._mending:
            now = time.monotonic()
            self._mend([sub for sub, when in self._mending.items() if when <= now])

    def _mend(self, due: Sequence[Subscription]) -> None:
        if not self._renewed(due):
            return
        for subscription in due:
            del self._mending[subscription]
            # What came over the old channel goes back to the queue with it.
            old = subscription.channel
            self._arrived.pop(subscription, None)
            subscription.begin(None, 0)
            if old is not None:
                old.close()
            self._consume(subscription)

    def _renewed(self, due: Sequence[Subscription]) -> bool:
        """Whether the queues of `due` are declared anew, where that is ours to do."""
        declared = self._topology.names()
        try:
            if any(subscription.queue in declared for subscription in due):
                self._declaration.renew(self._connection)
        except ResourceError as error:
            # Every channel is in use: those that have one go on, the others wait for theirs.
            get_logger().error("cannot declare", error=str(error))
            for subscription in due:
                self._mend_later(subscription)
            return False
        return True

    def _hand_over(self, subscription: Subscription, messages: list[Any]) -> None:
        if messages:
            tell(self._loop, subscription.deliver, messages, subscription.generation)

    def leave(self) -> Iterator[float]:
        """See `Work.leave`."""
        return self._parting.leave()

    def lost(self) -> None:
        """See `Work.lost`. The broker has taken back whatever was not settled."""
        if self._connection is not None:
            self._declaration.doubt()
        self._connection = None
        self._arrived.clear()
        self._mending.clear()
        self._parting.forget()
        for subscription in tuple(self._subscriptions):
            subscription.begin(None, 0)
            if subscription.stopped:
                del self._subscriptions[subscription]


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
