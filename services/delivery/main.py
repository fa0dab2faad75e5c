"""Wires the delivery service together; decides nothing."""

from __future__ import annotations

import random

from services.delivery.attempt import Limits
from services.delivery.destination import Tools
from services.delivery.handling import Handling
from services.delivery.opening import Opener
from services.delivery.pool import Pool
from services.delivery.upload import Times
from shared.broker.interface import Broker, Consumer
from shared.broker.topology import lane_queue
from shared.content.interface import ContentStore
from shared.content.store import open_store
from shared.dns.interface import Resolver
from shared.dns.resolver import DnspythonResolver
from shared.messages.model import MessageClass
from shared.settings.model import Settings


class DeliveryService:
    """Takes jobs from both classes of the default lane (`shared.service.Service`)."""

    name = "delivery"

    def __init__(
        self, settings: Settings, broker: Broker, resolver: Resolver, store: ContentStore
    ) -> None:
        delivery = settings.delivery
        self._broker = broker
        self._prefetch = delivery.prefetch
        self._handling = Handling(settings, store)
        limits = Limits(Times.of(delivery.timeouts))
        opener = Opener(settings, resolver, random.SystemRandom())
        self._pool = Pool(Tools(delivery, limits, settings.limits.default, opener, self._handling))
        self._handling.attach(self._pool)
        self._consumers: list[Consumer] = []

    async def start(self) -> None:
        """Consume, each class with a prefetch of its own."""
        for message_class in MessageClass:
            for partition in range(8):
                queue = lane_queue("default", partition, message_class.value)
                consumer = self._broker.consume(queue, self._prefetch, self._handling.handle)
                self._consumers.append(consumer)

    def ready(self) -> str:
        """Always: work waits in the queues."""
        return ""

    async def drain(self) -> None:
        """Take nothing new, release what has not begun, finish what has."""
        for consumer in self._consumers:
            await consumer.stop()
        await self._pool.drain()
        await self._handling.settled()


def build(settings: Settings, broker: Broker) -> DeliveryService:
    """The service over real DNS and the configured content store. Raises `ConfigError`."""
    resolver = DnspythonResolver(settings.dns)
    return DeliveryService(settings, broker, resolver, open_store(settings.content_store))
