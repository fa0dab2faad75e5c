"""Wires the delivery service together; decides nothing."""

from __future__ import annotations

import os
import random
import secrets
import socket
from collections.abc import Collection, Mapping

from services.delivery.attempt import Limits
from services.delivery.gauges import Gauges
from services.delivery.handling import Handling
from services.delivery.line import Tools
from services.delivery.opening import Opener
from services.delivery.ownership import Ownership
from services.delivery.partitions import Partitions, queue_prefetch
from services.delivery.placing import Placing
from services.delivery.pool import Pool
from services.delivery.tracing import AttemptTracing
from services.delivery.upload import Times
from services.delivery.usefulness import Usefulness
from services.delivery.verified import VerifiedTls
from shared import metrics
from shared.broker.interface import Broker
from shared.content.interface import ContentStore
from shared.content.store import open_store
from shared.dns.interface import Resolver
from shared.dns.resolver import DnspythonResolver
from shared.events.emitter import Emitter
from shared.open_files import allow_connections
from shared.plan.lanes import lane_names
from shared.plan.providers import provider_names
from shared.settings.load import ConfigError
from shared.settings.model import Settings
from shared.settings.shaping import LimitsSettings
from shared.tracing.tracer import Tracer, open_tracer


class DeliveryService:
    """Sends the jobs of some lanes, None: of all (`shared.service.Service`)."""

    name = "delivery"

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        resolver: Resolver,
        store: ContentStore,
        lanes: Collection[str] | None = None,
        *,
        tracer: Tracer | None = None,
    ) -> None:
        delivery, providers = settings.delivery, provider_names(settings.providers)
        self._most = delivery.max_connections
        self._placing = Placing(settings, lanes)
        self._emitter = Emitter(settings.events, broker.events)
        self._tracing = None
        timeouts = Limits(Times.of(delivery.timeouts))
        if tracer is not None:
            self._tracing = AttemptTracing(tracer)
        self._handling = Handling(
            settings, store, self._placing, emitter=self._emitter, tracing=self._tracing
        )
        opener = Opener(settings, resolver, random.SystemRandom())
        self._pool = Pool(
            Tools(timeouts, opener, self._handling),
            self._placing.limits_of,
            delivery.idle_timeout / 1000,
            metrics.throttled_by(providers),
            self._most,
        )
        self._handling.attach(self._pool)
        prefetch = queue_prefetch(delivery.prefetch, len(self._placing.partitions()))
        self._partitions = Partitions(broker, self._pool, self._handling.handle, prefetch)
        names = [lane.name for lane in self._placing.lanes]
        self._gauges = Gauges(
            self._handling.held,
            self._partitions.not_looked_at,
            self._placing.partition,
            self._pool.left_alone,
            lanes=names,
            providers=providers,
        )
        self._usefulness = Usefulness(self._pool.loads, self._most, names)
        self._ownership = Ownership(
            f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
            {lane.name: lane.partitions for lane in self._placing.lanes},
            delivery.heartbeat / 1000,
            broker,
            self._partitions,
        )

    async def start(self) -> None:
        """Join those that serve the same lanes."""
        allow_connections(self._most)
        self._emitter.start()
        self._ownership.start()
        self._gauges.start()
        self._usefulness.start()

    def served(self) -> Mapping[str, tuple[str, str, str]]:
        """See `shared.depths.Serving`."""
        return self._partitions.served()

    def set_limits(self, limits: LimitsSettings) -> None:
        """Keep these limits from now on."""
        self._placing.set_limits(limits)
        self._pool.set_limits(self._placing.limits_of)

    def ready(self) -> str:
        """Always: work waits in the queues."""
        return ""

    async def drain(self) -> None:
        """Take nothing new, release what has not begun, finish what has; others take over."""
        self._usefulness.stop()
        await self._ownership.drain()
        await self._pool.ended()
        await self._handling.settled()
        await self._ownership.stop()
        await self._emitter.stop()
        self._gauges.stop()
        if self._tracing is not None:
            await self._tracing.close()


def build(
    settings: Settings, broker: Broker, lanes: Collection[str] | None = None
) -> DeliveryService:
    """The service over real DNS and the configured content store. Raises `ConfigError`."""
    resolver = DnspythonResolver(settings.dns)
    tracer = open_tracer(settings.tracing, DeliveryService.name)
    store = open_store(settings.content_store)
    return DeliveryService(settings, broker, resolver, store, lanes, tracer=tracer)


def check_files(settings: Settings) -> None:
    """Raise `ConfigError` for a file of certificates that cannot be used."""
    VerifiedTls(settings.delivery.tls_authority)


def check_lanes(settings: Settings, lanes: Collection[str]) -> None:
    """Raise `ConfigError` for a lane that is not configured."""
    known = lane_names(settings.lanes)
    for lane in lanes:
        if lane not in known:
            raise ConfigError(f"--lane: {lane} is not one of {', '.join(known)}")
