"""An attempt ends, and a job that only waits is given back, before the broker takes it away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.delivery.attempt import Limits
from services.delivery.destination import Tools
from services.delivery.handling import Handling
from services.delivery.opening import Opener
from services.delivery.pool import Pool
from services.delivery.upload import Times
from services.demo.receiver import Receiver, Script, Stage
from shared.broker.interface import Delivery
from shared.broker.topology import DUE
from shared.content.store import open_store
from shared.messages.model import MailExchanger
from shared.settings.model import ContentStoreSettings, DeliverySettings, Settings
from shared.settings.shaping import SiteLimits
from tests.integration.test_delivery import LANE, LATER, Loopback, Rig
from tests.support.memory_broker import MemoryBroker

LONG = 60.0
LONG_TIMES = Times(LONG, LONG, LONG, LONG, LONG)


class LimitedRig(Rig):
    """A rig whose service has its own limits; `taken` has the ids of the jobs it was given."""

    def __init__(self, receiver: Receiver, folder: Path, limits: Limits) -> None:
        settings = Settings(
            content_store=ContentStoreSettings(url=f"file://{folder}"),
            delivery=DeliverySettings.model_validate({"retry_schedule": "1s"}),
        )
        super().__init__(receiver, MemoryBroker(), settings)
        self.taken: list[str] = []
        self.again = asyncio.Event()
        self.handling = Handling(settings, open_store(settings.content_store))
        opener = Opener(settings, Loopback(), random.Random(1))
        self.pool = Pool(
            Tools(settings.delivery, limits, SiteLimits(connections=1), opener, self.handling)
        )
        self.handling.attach(self.pool)

    def handle(self, delivery: Delivery) -> None:
        if delivery.message_id in self.taken:
            self.again.set()
        self.taken.append(delivery.message_id)
        self.handling.handle(delivery)


@asynccontextmanager
async def limited(folder: Path, script: Script, limits: Limits) -> AsyncIterator[LimitedRig]:
    async with Receiver(script) as receiver:
        rig = LimitedRig(receiver, folder, limits)
        consumer = rig.broker.consume(LANE, 10, rig.handle)
        yield rig
        await consumer.stop()
        await receiver.close()
        await rig.pool.drain()
        await rig.handling.settled()
        await rig.broker.close()


@pytest.mark.parametrize("stage", [Stage.BANNER, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA])
async def test_an_attempt_ends_whatever_each_step_may_take(tmp_path: Path, stage: Stage) -> None:
    limits = Limits(LONG_TIMES, attempt=0.3)
    async with limited(tmp_path, Script(delays={stage: LONG}), limits) as r:
        (later,) = await r.successors(r.job())
        assert later.queue == DUE


async def test_no_further_host_is_tried_when_the_time_is_over(tmp_path: Path) -> None:
    limits = Limits(LONG_TIMES, attempt=0.3)
    async with (
        limited(tmp_path, Script(delays={Stage.BANNER: LONG}), limits) as r,
        Receiver() as worse,
    ):
        ports = (r.receiver.port, worse.port)
        exchangers = tuple(MailExchanger(n, "mx.b.test", port) for n, port in enumerate(ports))
        (later,) = await r.successors(r.job(exchangers=exchangers))
        assert later.queue == DUE
        assert worse.connections == 0


async def test_the_reply_to_the_dot_is_waited_for_beyond_the_time_of_an_attempt(
    tmp_path: Path,
) -> None:
    limits = Limits(LONG_TIMES, attempt=0.5)
    async with limited(tmp_path, Script(delays={Stage.DOT: 0.8}), limits) as r:
        await r.give(r.job())
        await r.receiver.wait_for(1)
        await r.pool.drain()
        assert len(r.broker.published) == 1


async def test_a_job_that_only_waits_is_given_back(tmp_path: Path) -> None:
    limits = Limits(LONG_TIMES, waiting=0.1)
    async with limited(tmp_path, Script(delays={Stage.DOT: LONG}), limits) as r:
        await r.give(r.job(id="begun"))
        await r.receiver.wait_for(lambda: any(b"DATA" in raw for raw in r.receiver.raw))
        await r.give(r.job(id="waiting"))
        async with asyncio.timeout(5):
            await r.again.wait()
        assert r.taken.count("begun") == 1
        assert len(r.broker.published) == 2


async def test_a_job_behind_an_unreachable_one_is_deferred_with_it(tmp_path: Path) -> None:
    limits = Limits(LONG_TIMES)
    async with limited(tmp_path, Script(replies={Stage.BANNER: LATER}), limits) as r:
        for _ in range(5):
            await r.give(r.job())
        published = await r.broker.wait_published(10)
        assert [message.queue for message in published].count(DUE) == 5
        assert r.receiver.connections < 5
