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
from typing import Any, Protocol

from services.router.routing import StaticRoutes, Way, literal_route, way_by_dns
from services.router.splitting import Split, domains_of, first_job, split
from services.router.successors import Plan, Successors, SuccessorSettings
from shared import metrics
from shared.broker.interface import Broker, Consumer, Delivery, ParkReason
from shared.broker.topology import ACCEPTED, DUE
from shared.content.interface import ContentMissing, ContentStore, ContentUnavailable
from shared.dns.answers import MxAnswer
from shared.dns.interface import Resolver
from shared.logs import get_logger
from shared.mail.dsn import HEADERS_LIMIT
from shared.mail.headers import header_section
from shared.messages.codec import CodecError, decode
from shared.messages.model import AcceptedMail, DeliveryJob
from shared.settings.model import Settings


class CachingResolver(Resolver, Protocol):
    """A resolver that can tell what it knows without asking."""

    def cached_mail_exchangers(self, domain: str) -> MxAnswer | None:
        """The answer if it is known already."""


class Router:
    """See the module. `clock` gives epoch seconds."""

    name = "router"

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        resolver: CachingResolver,
        store: ContentStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings.router
        self._broker = broker
        self._resolver = resolver
        self._store = store
        self._routes = StaticRoutes(settings.router.routes)
        self._successors = Successors(SuccessorSettings.of(settings), clock)
        self._consumers: list[Consumer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Begin to consume."""
        for queue in (ACCEPTED, DUE):
            consumer = self._broker.consume(queue, self._settings.prefetch, self.handle)
            self._consumers.append(consumer)

    def ready(self) -> str:
        """Always, once started."""
        return ""

    async def drain(self) -> None:
        """Take nothing more; finish what has begun."""
        for consumer in self._consumers:
            await consumer.stop()
        await self._idle.wait()

    def handle(self, delivery: Delivery) -> None:
        """Route one message. What cannot be read is parked."""
        try:
            message = decode(delivery.body)
        except CodecError as error:
            delivery.reject(error.reason, str(error))
            return
        if isinstance(message, AcceptedMail):
            parent = first_job(message)
        elif isinstance(message, DeliveryJob):
            parent = message
        else:
            delivery.reject(ParkReason.UNDECODABLE, "neither mail nor job")
            return
        self._begin()
        ways = {domain: self._known_way(domain) for domain in domains_of(parent.recipients)}
        known = {domain: way for domain, way in ways.items() if way is not None}
        if len(known) == len(ways):
            self._route(delivery, parent, known)
        else:
            self._spawn(delivery, self._ask(delivery, parent, ways))

    def _known_way(self, domain: str) -> Way | None:
        route = self._routes.find(domain) or literal_route(domain)
        if route is not None:
            return route
        answer = self._resolver.cached_mail_exchangers(domain)
        return None if answer is None else way_by_dns(domain, answer)

    async def _ask(
        self, delivery: Delivery, parent: DeliveryJob, ways: dict[str, Way | None]
    ) -> None:
        domains = [domain for domain, way in ways.items() if way is None]
        answers = await asyncio.gather(*map(self._resolver.mail_exchangers, domains))
        found = {
            domain: way_by_dns(domain, answer)
            for domain, answer in zip(domains, answers, strict=True)
        }
        known = {domain: way for domain, way in ways.items() if way is not None}
        self._route(delivery, parent, known | found)

    def _route(self, delivery: Delivery, parent: DeliveryJob, ways: dict[str, Way]) -> None:
        parts = split(parent, ways, self._settings.recipients_per_job)
        if parent.content.blob and (parts.failures or parts.postponed):
            self._spawn(delivery, self._with_headers(delivery, parent, parts))
        else:
            headers = b""
            if parts.failures or parts.postponed:
                headers = header_section(parent.content.inline, HEADERS_LIMIT)
            self._forward(delivery, parent, parts, headers)

    async def _with_headers(self, delivery: Delivery, parent: DeliveryJob, parts: Split) -> None:
        try:
            content = await self._store.get(parent.content.blob)
        except ContentMissing:
            delivery.reject(ParkReason.CONTENT_MISSING, parent.content.blob)
            self._end()
        except ContentUnavailable as error:
            get_logger().warning("content store", mail_id=parent.mail_id, error=str(error))
            delivery.failed()
            self._end()
        else:
            self._forward(delivery, parent, parts, header_section(content, HEADERS_LIMIT))

    def _forward(
        self, delivery: Delivery, parent: DeliveryJob, parts: Split, headers: bytes
    ) -> None:
        plan = self._successors.plan(parent, parts, headers)
        # custody: jobs, notification and parked copies are durable before the message is settled.
        forwarded = delivery.forward(plan.messages)
        forwarded.add_done_callback(partial(self._forwarded, plan))

    def _forwarded(self, plan: Plan, future: asyncio.Future[None]) -> None:
        self._end()
        if future.cancelled() or future.exception() is not None:
            return
        plan.report()
        for job in plan.ended:
            if job.content.blob:
                share = self._store.end_share(job.content.blob, job.blob_share, job.id)
                self._keep(asyncio.ensure_future(_logged(share, job.mail_id)))

    def _spawn(self, delivery: Delivery, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._keep(task)
        task.add_done_callback(partial(self._spawned, delivery))

    def _spawned(self, delivery: Delivery, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            get_logger().error("routing failed", message_id=delivery.message_id, exc_info=error)
            delivery.failed()
            self._end()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self) -> None:
        self._open += 1
        self._idle.clear()
        metrics.in_flight.set(self._open)

    def _end(self) -> None:
        self._open -= 1
        metrics.in_flight.set(self._open)
        if self._open == 0:
            self._idle.set()


async def _logged(share: Coroutine[Any, Any, None], mail_id: str) -> None:
    try:
        await share
    except ContentUnavailable as error:
        get_logger().warning("a blob was left behind", mail_id=mail_id, error=str(error))
