"""The router's shell: a message in, its jobs out, and only then is the message settled.

Nearly every message is handled within the consumer's call: its domains have static routes or
their mail exchangers are known. Only a question to the DNS, or a notification that needs the
content store, makes a task.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, cast

from services.router.held import Held
from services.router.left_over import LeftOvers
from services.router.routing import MALFORMED, TOO_LATE, Way, domain_of, given_up
from services.router.splitting import Split, first_job, split
from services.router.successors import Plan, Successors, SuccessorSettings
from services.router.telling import parked
from services.router.tracing import TracedDelivery, traced
from services.router.ways import Ways
from shared.broker.interface import Broker, Consumer, Delivery, ParkReason
from shared.broker.pacing import Pace
from shared.broker.portions import Foremost, Portions
from shared.broker.topology import ACCEPTED, CROWD, DUE
from shared.content.interface import ContentMissing, ContentStore, ContentUnavailable
from shared.dns.answers import MxAnswer
from shared.dns.interface import Resolver
from shared.events.emitter import Emitter
from shared.events.parking import park
from shared.logs import clip, get_logger
from shared.mail.dsn import FULL_LIMIT
from shared.messages.codec import CodecError, decode
from shared.messages.model import AcceptedMail, DeliveryJob
from shared.plan.lanes import LanePlan
from shared.plan.limits import LimitTable
from shared.settings.model import Settings
from shared.settings.shaping import LimitsSettings
from shared.tracing.tracer import Tracer

PACES = {DUE: Pace(portion=8, pause=0.005), CROWD: Pace(portion=2, pause=0.02)}
"""For what comes back from delivery, while accepted mail comes: 1,600 and 100 a second.

The first lets 100,000 through in a minute; of the second the other mail shall notice little.
"""
LATER_PREFETCH = 32
"""Of these: what a broker hands out in one go holds up other mail as well."""


class CachingResolver(Resolver, Protocol):
    """A resolver that can tell what it knows without asking."""

    def cached_mail_exchangers(self, domain: str) -> MxAnswer | None:
        """The answer if it is known already."""


class Router:
    """See the module. `clock` gives epoch seconds.

    Queues of former plans are looked for every `look` seconds.
    """

    name = "router"

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        resolver: CachingResolver,
        store: ContentStore,
        *,
        clock: Callable[[], float] = time.time,
        look: float = 60.0,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._resolver = resolver
        self._store = store
        self._clock = clock
        self._tracer = tracer
        lanes = LanePlan(settings.lanes, LimitTable(settings.limits))
        self._ways = Ways(settings, lanes)
        self._emitter = emitter = Emitter(settings.events, broker.events)
        self._successors = Successors(
            SuccessorSettings.of(settings), lanes, clock, emitter.concerns
        )
        self._left_overs = LeftOvers(broker, settings.router.prefetch, look)
        self._accepted = Foremost(self.handle)
        self._later = {
            queue: Portions(self.handle, pace, self._accepted) for queue, pace in PACES.items()
        }
        self._consumers: list[Consumer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = Held()

    async def start(self) -> None:
        """Begin to consume."""
        self._emitter.start()
        consume, prefetch = self._broker.consume, self._settings.router.prefetch
        self._consumers.append(consume(ACCEPTED, prefetch, self._accepted.handle))
        for queue, portions in self._later.items():
            self._consumers.append(consume(queue, min(LATER_PREFETCH, prefetch), portions.handle))
        self._left_overs.start()

    def set_limits(self, limits: LimitsSettings) -> None:
        """From now on route under these limits."""
        lanes = LanePlan(self._settings.lanes, LimitTable(limits))
        self._ways = Ways(self._settings, lanes)
        self._successors.lanes = lanes

    def ready(self) -> str:
        """Always, once started."""
        return ""

    async def drain(self) -> None:
        """Take nothing more; finish what has begun, and the blobs that it ended."""
        await self._left_overs.stop()
        for consumer in self._consumers:
            await consumer.stop()
        for queue, portions in self._later.items():
            portions.release([queue])
        await self._held.none()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._emitter.stop()
        if self._tracer is not None:
            await self._tracer.close()

    def handle(self, delivery: Delivery) -> None:
        """Route one message. What cannot be read is parked."""
        self._held.begin()
        try:
            self._handle(delivery)
        except BaseException:
            self._held.end()
            raise

    def _handle(self, delivery: Delivery) -> None:
        try:
            message = decode(delivery.body)
        except CodecError as error:
            self._reject(delivery, error.reason, str(error))
            return
        if isinstance(message, AcceptedMail):
            parent = first_job(message)
        elif isinstance(message, DeliveryJob):
            parent = message
        else:
            self._reject(delivery, ParkReason.UNDECODABLE, "neither mail nor job")
            return
        if self._tracer is not None and parent.traceparent:
            delivery, parent = traced(self._tracer, delivery, parent, self._clock)
        self._find_ways(delivery, parent)

    def _find_ways(self, delivery: Delivery, parent: DeliveryJob) -> None:
        if parent.deliver_by is not None and self._successors.is_overdue(parent):
            self._route(delivery, parent, [TOO_LATE] * len(parent.recipients))
            return
        ways: list[Way | None] = []
        unknown: dict[str, list[int]] = {}
        for number, recipient in enumerate(parent.recipients):
            domain = domain_of(recipient.address)
            way = MALFORMED if domain is None else self._known_way(domain)
            if way is None:
                unknown.setdefault(domain or "", []).append(number)
            ways.append(way)
        if unknown:
            self._spawn(delivery, self._ask(delivery, parent, ways, unknown))
        else:
            self._route(delivery, parent, cast("list[Way]", ways))

    def _known_way(self, domain: str) -> Way | None:
        route = self._ways.without_dns(domain)
        if route is not None:
            return route
        answer = self._resolver.cached_mail_exchangers(domain)
        return None if answer is None else self._ways.by_dns(domain, answer)

    async def _ask(
        self,
        delivery: Delivery,
        parent: DeliveryJob,
        ways: list[Way | None],
        unknown: dict[str, list[int]],
    ) -> None:
        began = self._clock()
        answers = await asyncio.gather(*map(self._resolver.mail_exchangers, unknown))
        if isinstance(delivery, TracedDelivery):
            delivery.dns_seconds = self._clock() - began
        for (domain, numbers), answer in zip(unknown.items(), answers, strict=True):
            for number in numbers:
                ways[number] = self._ways.by_dns(domain, answer)
        self._route(delivery, parent, cast("list[Way]", ways))

    def _route(self, delivery: Delivery, parent: DeliveryJob, ways: list[Way]) -> None:
        parts = split(parent, ways)
        if parts.postponed and self._successors.is_late(parent):
            parts = split(parent, [given_up(way) for way in ways])
        elif parts.postponed:
            self._successors.tell_of_delays(parts)
        if not parts.needs_content:
            self._forward_parts(delivery, parent, parts, b"")
        elif parent.content.blob:
            self._spawn(delivery, self._with_content(delivery, parent, parts))
        else:
            content = bytes(parent.content.inline[: FULL_LIMIT + 1])
            self._forward_parts(delivery, parent, parts, content)

    async def _with_content(self, delivery: Delivery, parent: DeliveryJob, parts: Split) -> None:
        try:
            content = await self._store.get(parent.content.blob)
        except ContentMissing:
            self._reject(delivery, ParkReason.CONTENT_MISSING, parent.content.blob, parent)
        except ContentUnavailable as error:
            get_logger().warning("content store", mail_id=parent.mail_id, error=str(error))
            self._forward(delivery, parent, self._successors.wait_for_store(parent))
        else:
            self._forward_parts(delivery, parent, parts, bytes(content[: FULL_LIMIT + 1]))

    def _forward_parts(
        self, delivery: Delivery, parent: DeliveryJob, parts: Split, content: bytes
    ) -> None:
        plan = self._successors.plan(parent, parts, content, delivery.queue)
        self._forward(delivery, parent, plan)

    def _forward(self, delivery: Delivery, parent: DeliveryJob, plan: Plan) -> None:
        # custody: jobs, notification, parked copies and events that are owed are durable before
        # the message is settled.
        messages = [*plan.messages, *self._emitter.owed(plan.told)] if plan.told else plan.messages
        forwarded = delivery.forward(messages, lasting=plan.ended)
        forwarded.add_done_callback(partial(self._forwarded, parent, plan))

    def _forwarded(self, parent: DeliveryJob, plan: Plan, future: asyncio.Future[None]) -> None:
        self._held.end()
        if future.cancelled() or future.exception() is not None:
            return  # the broker delivers the message again, and the same ids are made of it
        plan.report()
        if plan.told:
            self._emitter.emit(plan.told)
        if plan.ended and parent.content.blob:
            self._keep(asyncio.ensure_future(self._end_share(parent)))

    async def _end_share(self, job: DeliveryJob) -> None:
        try:
            await self._store.end_share(job.content.blob, job.blob_share, job.id)
        except ContentUnavailable as error:
            get_logger().warning("a blob was left behind", mail_id=job.mail_id, error=str(error))

    def _reject(
        self, delivery: Delivery, reason: ParkReason, detail: str, job: DeliveryJob | None = None
    ) -> None:
        detail, told, now = clip(detail), [], self._clock()
        if job is not None and self._emitter.concerns(job.tenant):
            told = parked(job, reason, detail, now)
        moved = park(delivery, reason, detail, self._emitter, told, now=now, job=job)
        moved.add_done_callback(self._rejected)

    def _rejected(self, future: asyncio.Future[None]) -> None:
        self._held.end()
        if not future.cancelled() and (error := future.exception()) is not None:
            get_logger().warning("not parked yet", error=str(error))

    def _spawn(self, delivery: Delivery, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._keep(task)
        task.add_done_callback(partial(self._spawned, delivery))

    def _spawned(self, delivery: Delivery, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            get_logger().error("routing failed", message_id=delivery.message_id, exc_info=error)
            delivery.failed()
            self._held.end()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
