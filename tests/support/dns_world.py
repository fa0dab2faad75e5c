"""Router and delivery on one embedded broker, with an authoritative DNS server of their own."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from services.delivery.main import DeliveryService
from services.demo.receiver import Receiver
from services.router.handling import Router
from services.router.routing import own_names
from shared import metrics
from shared.broker.connect import connect_broker
from shared.broker.interface import Broker, Outgoing
from shared.broker.topology import ACCEPTED
from shared.content.store import open_store
from shared.dns.resolver import AnswerCache, DnspythonResolver
from shared.messages.codec import encode
from shared.messages.model import AcceptedMail, Content, Recipient
from shared.settings.model import DnsSettings, Settings
from tests.support.dns_authority import DnsAuthority, serving
from tests.support.pipeline import eventually, free_port

TEXT = b"Subject: hello\r\n\r\nbody\r\n"
STEP = "150ms"


class World:
    """The two services, what they send to, and how to send mail through them.

    All mail exchangers listen on `port`, each on its own address. Notifications go to `home`.
    """

    def __init__(self, authority: DnsAuthority, broker: Broker, port: int, home: Receiver) -> None:
        self.authority, self.port, self.home = authority, port, home
        self._broker = broker
        self._numbers = itertools.count(1)

    async def send(self, *addresses: str) -> None:
        """Accept one mail."""
        recipients = tuple(map(Recipient, addresses))
        name = f"MAIL{next(self._numbers)}"
        content = Content(len(TEXT), memoryview(TEXT))
        mail = AcceptedMail(name, time.time(), "me@sender.test", recipients, content)
        await self._broker.publish(Outgoing(ACCEPTED, encode(mail), name))

    def asked(self, owner: str, kind: str) -> int:
        """How often the server was asked."""
        return self.authority.queries.count((owner, kind))


@asynccontextmanager
async def world(
    folder: Path,
    authority: DnsAuthority,
    *,
    private: bool = True,
    tcp: bool = False,
    max_age: str = "1h",
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(Receiver())
        # A thousand records take dnspython a while; who gets no answer shall not wait long.
        timeout = "20s" if tcp else "300ms"
        asked = await stack.enter_async_context(serving(authority, tcp=tcp, timeout=timeout))
        port = free_port()
        settings = configured(folder, asked, port, home, private=private, max_age=max_age)
        broker = connect_broker(settings, "test")
        await broker.start()
        stack.push_async_callback(broker.close)
        await broker.wait_usable(10)
        # Time passes fast for the cache: it keeps nothing from one attempt to the next.
        resolver = DnspythonResolver(
            settings.dns, AnswerCache(lambda: 100 * time.monotonic()), kept=own_names(settings)
        )
        store = open_store(settings.content_store)
        for service in (
            Router(settings, broker, resolver, store),
            DeliveryService(settings, broker, resolver, store),
        ):
            await service.start()
            stack.push_async_callback(service.drain)
        yield World(authority, broker, port, home)


def configured(
    folder: Path, asked: DnsSettings, port: int, home: Receiver, *, private: bool, max_age: str
) -> Settings:
    return Settings.model_validate(
        {
            "hostname": "mta.test",
            "broker": {"url": f"embedded://{folder}/queues"},
            "content_store": {"url": f"file://{folder}/content"},
            "dns": asked.model_dump(),
            "router": {
                "routes": [{"domains": ["sender.test"], "hosts": [f"127.0.0.1:{home.port}"]}],
                "own_names": ["MTA2.test"],
            },
            "lanes": [{"name": "default", "partitions": 2}],
            "delivery": {
                "smtp_port": port,
                "allow_private_addresses": private,
                "retry_schedule": [STEP],
                "max_age": max_age,
                "heartbeat": "100ms",
            },
        }
    )


def retries() -> float:
    (metric,) = metrics.retries.collect()
    return sum(sample.value for sample in metric.samples if sample.labels["step"] == STEP)


async def retried(times: int, since: float) -> None:
    async def often_enough() -> bool:
        return retries() >= since + times

    await eventually(often_enough, f"{times} attempts are deferred", 30)
