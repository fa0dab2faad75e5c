"""One delivery worker between a real broker and counting receivers, with the router's part.

The router's part is only what matters here: what is due again goes to the lane that the plan says.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.delivery.main import DeliveryService
from shared.broker.connect import connect_broker
from shared.broker.interface import Broker, Delivery, Outgoing
from shared.broker.topology import CROWD, DUE
from shared.content.store import open_store
from shared.messages.codec import decode, encode
from shared.messages.model import Content, DeliveryJob, MailExchanger, MessageClass, Recipient
from shared.plan.lanes import LanePlan
from shared.plan.limits import LimitTable
from shared.settings.model import Settings
from tests.integration.test_delivery import Loopback
from tests.support.counting import CountingReceiver

TEXT = b"Subject: x\r\n\r\nHello.\r\n"


class Shaped:
    """A worker, its broker and its plan."""

    def __init__(self, settings: Settings, broker: Broker, service: DeliveryService) -> None:
        self.settings = settings
        self.broker = broker
        self.service = service
        self.returned: list[DeliveryJob] = []
        self.ways: dict[str, str] = {}
        """By which queue each job came back first."""
        self._plan = LanePlan(settings.lanes, LimitTable(settings.limits))
        self._numbers = itertools.count(1)

    def job(
        self, site: str, receiver: CountingReceiver, recipients: int = 1, **changes: Any
    ) -> DeliveryJob:
        """A new job for that site, which is where the receiver is."""
        number = next(self._numbers)
        names = tuple(Recipient(f"r{number}.{n}@{site}") for n in range(recipients))
        fields = {
            "id": f"job{number}",
            "mail_id": "mail",
            "accepted_at": time.time(),
            "reverse_path": "s@a.test",
            "recipients": names,
            "content": Content(len(TEXT), memoryview(TEXT)),
            "destination": site,
            "site": site,
            "exchangers": (MailExchanger(10, "mx." + site, receiver.port),),
            "static": True,
            "message_class": MessageClass.BULK,
        }
        return DeliveryJob(**{**fields, **changes})

    async def give(self, jobs: Sequence[DeliveryJob]) -> None:
        """Publish the jobs, in order."""
        await asyncio.gather(*(self.broker.publish(self._outgoing(job)) for job in jobs))

    def _outgoing(self, job: DeliveryJob) -> Outgoing:
        return Outgoing(self._plan.place(job).queue, encode(job), job.id)

    def route_again(self, delivery: Delivery) -> None:
        """What the router does with a job that is due."""
        job = decode(delivery.body)
        assert isinstance(job, DeliveryJob)
        self.returned.append(job)
        self.ways.setdefault(job.id, delivery.queue)
        delivery.forward([self._outgoing(job)])


@asynccontextmanager
async def shaped(
    folder: Path,
    url: str,
    backlog: Callable[[Shaped], Sequence[DeliveryJob]] = lambda _: (),
    **settings: Any,
) -> AsyncIterator[Shaped]:
    """Everything started, when the backlog is there already; drained at the end."""
    whole = Settings.model_validate(
        {
            "broker": {"url": url},
            "content_store": {"url": f"file://{folder}"},
            "lanes": [{"name": "default", "partitions": 1}],
            "delivery": {"retry_schedule": ["1s"], "heartbeat": "200ms"},
            **settings,
        }
    )
    broker = connect_broker(whole, "test")
    await broker.start()
    await broker.wait_usable(30)
    service = DeliveryService(whole, broker, Loopback(), open_store(whole.content_store))
    one = Shaped(whole, broker, service)
    await one.give(backlog(one))
    await service.start()
    consumers = [broker.consume(queue, 200, one.route_again) for queue in (DUE, CROWD)]
    try:
        yield one
    finally:
        for consumer in consumers:
            await consumer.stop()
        async with asyncio.timeout(20):
            await service.drain()
        await broker.close()
