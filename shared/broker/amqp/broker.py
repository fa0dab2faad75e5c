"""The broker on RabbitMQ: the loop's side of two connections, one to publish, one to consume.

They are separate because an alarm of the broker stops everything that a publishing connection
sends, acknowledgements too; consumers must go on. The consuming one is opened by the first
consumer.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any

from amqp.exceptions import AMQPError, NotFound
from kombu import Connection

from shared import metrics
from shared.broker.amqp.consuming import (
    Cancel,
    Command,
    Consuming,
    Settle,
    Subscribe,
    Subscription,
    Verb,
)
from shared.broker.amqp.delivery import AmqpDelivery
from shared.broker.amqp.link import CONNECT_SECONDS, Link, LinkOptions
from shared.broker.amqp.publishing import Publish, Publishing, Results
from shared.broker.interface import (
    Consumer,
    Handler,
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
        self._limits = {queue.name: queue.delivery_limit for queue in topology.queues}
        self._closing = False
        self._publishing: Link[Publish] | None = None
        self._consuming: Link[Command] | None = None
        self._consuming_work: Consuming | None = None
        self._consumers: list[AmqpConsumer] = []
        self._open_publishes = 0

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
        work = Publishing(loop, self._report, confirm_timeout, self._topology)
        self._publishing = work.link = Link(self._options("publishing"), work)
        self._publishing.start()

    def _options(self, purpose: str) -> LinkOptions:
        name = f"postroad-{self._name}-{purpose}"
        heartbeat = self._settings.heartbeat / 1000
        return LinkOptions(self._settings.url, name, heartbeat, self._topology)

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
        link.submit(Publish(routing_key, message.body, message.message_id, message.headers, done))
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
        self._consumers.append(consumer)
        link.submit(Subscribe(consumer.subscription))
        return consumer

    def _open_consuming(self) -> Link[Command]:
        work = Consuming(asyncio.get_running_loop())
        link = work.link = Link(self._options("consuming"), work)
        self._consuming, self._consuming_work = link, work
        link.start()
        return link

    async def cancel(self, subscription: Subscription) -> None:
        """Return when the broker sends no more to this consumer, or the connection is gone."""
        if self._consuming is None or self._closing:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._consuming.submit(Cancel(subscription, done))
        await asyncio.wait([done], timeout=CLOSE_SECONDS)

    def settle(self, subscription: Subscription, generation: int, tag: int, verb: Verb) -> None:
        """See `Courier.settle`."""
        if self._consuming is not None:
            self._consuming.submit(Settle(subscription, generation, tag, verb))

    def is_current(self, generation: int) -> bool:
        """See `Courier.is_current`."""
        link = self._consuming
        return link is not None and not self._closing and link.generation == generation

    def release(self, delivery: AmqpDelivery) -> None:
        """See `Courier.release`: before 4.3 a requeue counts, so the message goes in anew."""
        work = self._consuming_work
        if work is None or not work.counts_nacks or not self.is_current(delivery.generation):
            delivery.settle(Verb.REQUEUE)
            return
        again = Outgoing(
            delivery.queue, delivery.body, delivery.message_id, headers=delivery.headers
        )
        # custody: stored again and confirmed, then acknowledged; on trouble the requeue counts.
        self.publish(again).add_done_callback(
            lambda future: delivery.settle(Verb.REQUEUE if future.exception() else Verb.ACK)
        )

    def limit(self, queue: str) -> int | None:
        """See `Courier.limit`."""
        return self._limits.get(queue)

    async def depths(self) -> Mapping[str, int]:
        """Messages ready in each declared queue. Raises `Unavailable`."""
        try:
            return await asyncio.to_thread(self._count)
        except (AMQPError, OSError) as error:
            raise Unavailable(str(error)) from error

    def _count(self) -> dict[str, int]:
        url = self._settings.url
        with Connection(
            url, ssl=url.startswith("amqps:"), connect_timeout=CONNECT_SECONDS
        ) as connection:
            return {queue.name: _depth(connection, queue.name) for queue in self._topology.queues}

    async def close(self) -> None:
        """Stop the consumers, settle what is under way, give the rest back, disconnect."""
        if self._closing:
            return
        for consumer in self._consumers:
            await consumer.stop()
        await self._settled_publishes()
        self._closing = True
        for link in (self._consuming, self._publishing):
            if link is not None:
                await link.stop(CLOSE_SECONDS)
        # What the threads said last is in the loop's queue now.
        await asyncio.sleep(0)

    async def _settled_publishes(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._open_publishes and self.usable:  # noqa: ASYNC110 - at the end only
                    await asyncio.sleep(0.005)
        except TimeoutError:
            get_logger().warning("publishes without a confirm", waiting=self._open_publishes)


class AmqpConsumer:
    """See `shared.broker.interface.Consumer`."""

    def __init__(self, queue: str, prefetch: int, handler: Handler, broker: AmqpBroker) -> None:
        self._handler = handler
        self._broker = broker
        self._stopped = False
        self.subscription = Subscription(queue, prefetch, self._deliver)

    async def stop(self) -> None:
        """Take no more. What is prefetched but not handed out yet goes back uncounted."""
        if not self._stopped:
            self._stopped = True
            await self._broker.cancel(self.subscription)

    def _deliver(self, messages: list[Any], generation: int) -> None:
        for message in messages:
            delivery = AmqpDelivery(self.subscription, message, generation, self._broker)
            if self._stopped:
                delivery.release()
            else:
                self._handle(delivery)

    def _handle(self, delivery: AmqpDelivery) -> None:
        try:
            self._handler(delivery)
        except Exception:
            get_logger().exception(
                "a handler failed", queue=delivery.queue, message_id=delivery.message_id
            )
            delivery.failed()


def _depth(connection: Any, queue: str) -> int:
    channel = connection.channel()
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except NotFound:
        return 0
    finally:
        channel.close()


def _fail(future: asyncio.Future[None], error: PublishError) -> None:
    _FAILURES[type(error)].inc()
    if not future.done():
        future.set_exception(type(error)(*error.args))
