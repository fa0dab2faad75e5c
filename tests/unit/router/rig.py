"""A router on a broker in memory, with a real DNS server and a real content store."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from pathlib import Path

import msgspec
from prometheus_client import REGISTRY

from services.router.handling import CachingResolver, Router
from shared.broker.interface import Outgoing
from shared.broker.topology import ACCEPTED, DUE, build_topology, lane_queue
from shared.content.interface import ContentStore, ContentUnavailable
from shared.content.store import open_store
from shared.messages.codec import CodecError, decode, encode
from shared.messages.model import AcceptedMail, Content, DeliveryJob, Recipient
from shared.settings.model import Settings
from shared.tracing.tracer import Tracer
from tests.support.dns_authority import DnsAuthority
from tests.support.memory_broker import MemoryBroker

TRANSACTIONAL = lane_queue("default", 0, "transactional")
AGAIN = lane_queue("default", 0, "transactional", again=True)
BULK = lane_queue("default", 0, "bulk")
TEXT = b"Subject: hello\r\n\r\nbody\r\n"
SETTINGS = Settings.model_validate(
    {
        "hostname": "mta.test",
        "router": {
            "routes": [{"domains": ["static.test"], "hosts": ["127.0.0.1:2500"]}],
            "prefetch": 4,
        },
        "limits": {"default": {"recipients_per_transaction": 3}},
        "lanes": [{"name": "default", "partitions": 1}],
        "delivery": {"retry_schedule": ["1s", "2s"], "max_age": "1h", "delay_notice": "30m"},
    }
)


class MoodyStore:
    """A content store that can be down, and ends no share before `answers` is set.

    `asked` is set by the first question to end one.
    """

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self.down = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = asyncio.Event()

    def _check(self) -> None:
        if self.down:
            raise ContentUnavailable("no answer")

    async def put(self, name: str, data: bytes) -> None:
        self._check()
        await self._store.put(name, data)

    async def get(self, name: str) -> memoryview:
        self._check()
        return await self._store.get(name)

    async def end_share(self, name: str, share: Fraction, job_id: str) -> None:
        self.asked.set()
        await self.answers.wait()
        self._check()
        await self._store.end_share(name, share, job_id)


class Rig:
    """A router at work; `now` is its clock."""

    def __init__(self, authority: DnsAuthority, root: Path) -> None:
        self.authority = authority
        self.broker = MemoryBroker(build_topology([1000, 2000], {"default": 1}))
        self.folder = root / "content"
        url = f"file://{self.folder}"
        settings = SETTINGS.content_store.model_copy(update={"url": url})
        self.store = MoodyStore(open_store(settings))
        self.now = 1000.0
        self.resolver: CachingResolver
        self.router: Router

    async def start(self, *, tracer: Tracer | None = None, **settings: object) -> None:
        """Start a router; `settings` are other than usual."""
        chosen = SETTINGS.model_copy(update=settings)
        self.router = Router(
            chosen, self.broker, self.resolver, self.store, clock=lambda: self.now, tracer=tracer
        )
        await self.router.start()

    async def restart(self) -> None:
        """End the router and start another."""
        await self.router.drain()
        await self.start()

    async def route(self, message: AcceptedMail | DeliveryJob, count: int = 1) -> list[Outgoing]:
        """Give the router a message; its successors once there are `count`."""
        before = len(self.broker.published)
        queue = ACCEPTED if isinstance(message, AcceptedMail) else DUE
        given = Outgoing(queue, encode(message), message.id)
        await self.broker.publish(given)
        return await self.successors(before, count, given)

    async def successors(
        self, before: int, count: int, given: Outgoing | None = None
    ) -> list[Outgoing]:
        """What was published after the first `before` messages, once there are `count`.

        Notifications are routed as well; what they become does not count.
        """
        while True:
            published = self.broker.published
            found = [m for m in published[before:] if m is not given and not of_notification(m)]
            if len(found) >= count:
                return found
            await self.broker.wait_published(len(published) + 1)


def of_notification(message: Outgoing) -> bool:
    try:
        job = decode(message.body)
    except CodecError:
        return False
    return isinstance(job, DeliveryJob) and job.mail_id != "MAIL"


def mail(*addresses: str, reverse_path: str = "me@s.test") -> AcceptedMail:
    content = Content(len(TEXT), memoryview(TEXT))
    return AcceptedMail("MAIL", 1000.0, reverse_path, tuple(map(Recipient, addresses)), content)


def large(*addresses: str, reverse_path: str = "me@s.test", blob: str = "MAIL") -> AcceptedMail:
    content = Content(len(TEXT), blob=blob)
    return msgspec.structs.replace(mail(*addresses, reverse_path=reverse_path), content=content)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"postroad_{name}", labels) or 0.0


def job_in(message: Outgoing) -> DeliveryJob:
    job = decode(message.body)
    assert isinstance(job, DeliveryJob)
    return job
