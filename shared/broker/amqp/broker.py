"""The broker on RabbitMQ: the loop's side of its connections, one to publish, one to consume.

They are separate because an alarm of the broker stops everything that a publishing connection
sends, acknowledgements too; consumers must go on. The consuming one is opened by the first
consumer.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from amqp.exceptions import AMQPError

from shared import metrics
from shared.broker.amqp.connection import LinkOptions, connect, options_of
from shared.broker.amqp.consumer import AmqpConsumer
from shared.broker.amqp.consuming import Consuming
from shared.broker.amqp.declaring import Declaration, count, left_over
from shared.broker.amqp.delivery import AmqpDelivery
from shared.broker.amqp.events import AmqpEvents
from shared.broker.amqp.link import Link
from shared.broker.amqp.members import Line
from shared.broker.amqp.publishing import Publish, Publishing, Results
from shared.broker.amqp.subscription import (
    Cancel,
    Command,
    Settle,
    Subscribe,
    Subscription,
    Verb,
)
from shared.broker.interface import (
    Consumer,
    Handler,
    Listener,
    Outgoing,
    PublishError,
    Refused,
    Unavailable,
    Unroutable,
)
from shared.broker.topology import Topology
from shared.logs import get_logger
from shared.settings.model import BrokerSettings

SWITCH_SECONDS = 0.0005
"""The interpreter's switch interval: a thread that has a batch waits no longer for its turn."""
CLOSE_SECONDS = 5.0
ASKING_HEARTBEAT = 2.0
"""Seconds; who asks waits for two of them at most, so that an alarm does not hold up an exit."""

Answer = TypeVar("Answer")

_observe_publish = metrics.publish_seconds.observe
_FAILURES = {
    Unavailable: metrics.publish_failures.labels("unavailable"),
    Refused: metrics.publish_failures.labels("refused"),
    Unroutable: metrics.publish_failures.labels("unroutable"),
}


class AmqpBroker:
    """See `shared.broker.interface.Broker`."""

    def __init__(self, settings: BrokerSettings, topology: Topology, name: str) -> None:
        self._settings = settings
        self._topology = topology
        self._name = name
        self._declaration = Declaration(topology)
        self._line = Line(self._options("members"))
        self.events = AmqpEvents(self._options("events"))
        self._closing = False
        self._publishing: Link[Publish] | None = None
        self._consuming: Link[Command] | None = None
        self._consuming_work: Consuming | None = None
        self._consumers: dict[Subscription, AmqpConsumer] = {}
        self._open_publishes = 0
        self._retries: set[Callable[[], None]] = set()

    @property
    def usable(self) -> bool:
        """Connected to publish (and to consume, once somebody does), and not blocked."""
        links = [link for link in (self._publishing, self._consuming) if link is not None]
        connected = bool(links) and all(link.connected for link in links)
        return connected and not self.blocked and not self._closing

    @property
    def blocked(self) -> bool:
        """The broker asked publishers to wait."""
        return self._publishing is not None and self._publishing.blocked

    async def start(self) -> None:
        """Start connecting, in the background."""
        sys.setswitchinterval(min(SWITCH_SECONDS, sys.getswitchinterval()))
        loop = asyncio.get_running_loop()
        confirm_timeout = self._settings.confirm_timeout / 1000
        work = Publishing(loop, self._report, confirm_timeout, self._declaration)
        self._publishing = Link(self._options("publishing"), work, loop)
        self._publishing.start()

    def _options(self, purpose: str) -> LinkOptions:
        return options_of(self._settings, f"postroad-{self._name}-{purpose}")

    async def wait_usable(self, timeout: float) -> None:
        """Return when usable; raises `Unavailable` after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not self.usable:  # noqa: ASYNC110 - rare, and the links send no event
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise Unavailable(f"not usable after {timeout} s") from None

    def publish(self, message: Outgoing) -> asyncio.Future[None]:
        """Ends when the message is stored durably. Raises ValueError for an undeclared delay."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        routing_key = message.queue
        if message.delay_ms is not None:
            routing_key = self._topology.delayed_through(message.queue, message.delay_ms)
        link = self._publishing
        if link is None or self._closing or not link.connected:
            _fail(done, Unavailable("no connection to the broker"))
            return done
        self._open_publishes += 1
        link.commands.submit(
            Publish(routing_key, message.body, message.message_id, message.headers, done)
        )
        return done

    def _report(self, results: Results) -> None:
        now = time.monotonic()
        self._open_publishes -= len(results)
        for publish, error in results:
            if error is not None:
                _fail(publish.done, error)
            elif not publish.done.done():
                _observe_publish(now - publish.started)
                publish.done.set_result(None)

    def consume(self, queue: str, prefetch: int, handler: Handler) -> Consumer:
        """Deliver messages of `queue`, at most `prefetch` unsettled at a time, until stopped."""
        link = self._consuming or self._open_consuming()
        consumer = AmqpConsumer(queue, prefetch, handler, self)
        self._consumers[consumer.subscription] = consumer
        link.commands.submit(Subscribe(consumer.subscription))
        return consumer

    def _open_consuming(self) -> Link[Command]:
        loop = asyncio.get_running_loop()
        self._consuming_work = work = Consuming(loop, self._topology, self._declaration)
        self._consuming = link = Link(self._options("consuming"), work, loop)
        link.start()
        return link

    async def cancel(self, subscription: Subscription) -> None:
        """See `Canceller.cancel`; also returns when the connection is gone."""
        self._consumers.pop(subscription, None)
        if self._consuming is None or self._closing:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._consuming.commands.submit(Cancel(subscription, done))
        await asyncio.wait([done], timeout=CLOSE_SECONDS)

    def settle(self, delivery: AmqpDelivery, verb: Verb) -> None:
        """See `Courier.settle`."""
        if self._consuming is not None and not self._closing:
            self._consuming.commands.submit(
                Settle(delivery.subscription, delivery.generation, delivery.tag, verb)
            )

    def is_current(self, delivery: AmqpDelivery) -> bool:
        """See `Courier.is_current`."""
        return not self._closing and delivery.generation == delivery.subscription.generation

    def release(self, delivery: AmqpDelivery) -> None:
        """See `Courier.release`: before 4.3 a requeue counts, so the message goes in anew.

        While publishers are blocked it is requeued, and counts: others may go on with it.
        """
        work = self._consuming_work
        anew = work is not None and work.counts_nacks and not self.blocked
        if not anew or not self.is_current(delivery):
            self.settle(delivery, Verb.REQUEUE)
            return
        again = Outgoing(
            delivery.queue, delivery.body, delivery.message_id, headers=delivery.headers
        )
        # custody: stored again and confirmed, then acknowledged; on trouble the requeue counts.
        self.publish(again).add_done_callback(
            lambda future: self.settle(delivery, Verb.REQUEUE if future.exception() else Verb.ACK)
        )

    def try_later(self, seconds: float, again: Callable[[], None]) -> None:
        """See `Courier.try_later`."""
        self._retries.add(again)
        asyncio.get_running_loop().call_later(seconds, self._try_again, again)

    def _try_again(self, again: Callable[[], None]) -> None:
        if again in self._retries:
            self._retries.discard(again)
            again()

    def limit(self, queue: str) -> int | None:
        """See `Courier.limit`."""
        declared = self._topology.find(queue)
        return None if declared is None else declared.delivery_limit

    @property
    def hearing(self) -> bool:
        """Whether announcements of others would reach us now."""
        return self._line.hearing and not self._closing

    def announce(self, body: bytes) -> None:
        """Tell every process that listens now, if the broker is there and not blocked."""
        if not self._closing:
            self._line.announce(body)

    def listen(self, handler: Callable[[bytes], None]) -> Listener:
        """Call `handler` on the loop for each announcement from now on, until stopped."""
        return self._line.listen(handler)

    async def left_over(self) -> Sequence[str]:
        """Lane queues that former plans declared and this topology lacks. Raises `Unavailable`."""
        return await self._ask(partial(left_over, topology=self._topology))

    async def depths(self, queues: Collection[str] | None = None) -> Mapping[str, int]:
        """Messages ready in each of the queues. Raises `Unavailable`."""
        names = self._topology.names() if queues is None else queues
        return await self._ask(partial(count, queues=names))

    async def _ask(self, question: Callable[[Any], Answer]) -> Answer:
        options = replace(self._options("asking"), heartbeat=ASKING_HEARTBEAT)
        try:
            return await asyncio.to_thread(_asked, options, question)
        except (AMQPError, OSError) as error:
            raise Unavailable(str(error)) from error

    async def close(self) -> None:
        """Stop the consumers, settle what is under way, give the rest back, disconnect."""
        if self._closing:
            return
        await asyncio.gather(*(consumer.stop() for consumer in tuple(self._consumers.values())))
        await self._settled_publishes()
        self._closing = True
        for again in list(self._retries):
            self._try_again(again)
        for link in (self._consuming, self._publishing):
            if link is not None:
                await link.stop(CLOSE_SECONDS)
        await self._line.close(CLOSE_SECONDS)
        await self.events.close(CLOSE_SECONDS)
        # What the threads said last is in the loop's queue now.
        await asyncio.sleep(0)

    async def _settled_publishes(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._open_publishes and self.usable:  # noqa: ASYNC110 - at the end only
                    await asyncio.sleep(0.005)
        except TimeoutError:
            get_logger().warning("publishes without a confirm", waiting=self._open_publishes)


def _asked(options: LinkOptions, question: Callable[[Any], Answer]) -> Answer:
    """The answer over a connection of its own. Blocks."""
    connection = connect(options)
    try:
        return question(connection)
    finally:
        connection.collect()


def _fail(future: asyncio.Future[None], error: PublishError) -> None:
    _FAILURES[type(error)].inc()
    if not future.done():
        future.set_exception(type(error)(*error.args))
