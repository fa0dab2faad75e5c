"""An attempt ends, and a job that only waits is given back, before the broker takes it away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.delivery.attempt import Limits
from services.delivery.demand import Load
from services.delivery.handling import Handling
from services.delivery.holding import Partition, Prefetch
from services.delivery.line import Tools
from services.delivery.opening import Opener
from services.delivery.partitions import Partitions
from services.delivery.placing import Placing
from services.delivery.pool import Pool
from services.delivery.upload import Times
from services.demo.receiver import Receiver, Script, Stage
from shared import metrics
from shared.broker.topology import DUE, WAIT_STEPS_MS
from shared.content.store import open_store
from shared.messages.codec import decode
from shared.messages.model import DeliveryJob, MailExchanger
from shared.settings.model import ContentStoreSettings, DeliverySettings, Settings
from tests.integration.test_delivery import LATER, ONE_PARTITION, TOPOLOGY, Loopback, Rig, at_most
from tests.support.memory_broker import MemoryBroker
from tests.support.pipeline import eventually

LONG = 60.0
LONG_TIMES = Times(LONG, LONG, LONG, LONG, LONG)
PARTITION = Partition("default", 0)


class LimitedRig(Rig):
    """A rig whose service has limits of time of its own."""

    def __init__(self, receiver: Receiver, folder: Path, limits: Limits) -> None:
        settings = Settings(
            content_store=ContentStoreSettings(url=f"file://{folder}"),
            delivery=DeliverySettings.model_validate({"retry_schedule": "1s"}),
            lanes=ONE_PARTITION,
            limits=at_most(connections=1),
        )
        super().__init__(receiver, MemoryBroker(TOPOLOGY), settings)
        placing = Placing(settings)
        self.handling = Handling(settings, open_store(settings.content_store), placing)
        opener = Opener(settings, Loopback(), random.Random(1))
        throttled = metrics.throttled_by(["other"])
        tools = Tools(limits, opener, self.handling)
        self.pool = Pool(tools, placing.limits_of, 5.0, throttled, 100)
        self.handling.attach(self.pool)
        self.partitions = Partitions(
            self.broker, self.pool, self.handling.handle, Prefetch(100, 50)
        )

    def take(self) -> None:
        self.serving = True
        self.partitions.take(PARTITION, fresh=True)

    async def give_up(self) -> None:
        """Serve no more; what has begun ends."""
        if self.serving:
            self.serving = False
            await self.partitions.give_up(PARTITION)
        await self.pool.ended()


@asynccontextmanager
async def limited(folder: Path, script: Script, limits: Limits) -> AsyncIterator[LimitedRig]:
    async with Receiver(script) as receiver:
        rig = LimitedRig(receiver, folder, limits)
        rig.take()
        yield rig
        await receiver.close()
        await rig.give_up()
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
        await r.give_up()
        assert len(r.broker.published) == 1


async def test_a_job_that_only_waits_is_given_back(tmp_path: Path) -> None:
    limits = Limits(LONG_TIMES)
    async with limited(tmp_path, Script(delays={Stage.DOT: LONG}), limits) as r:
        await r.give(r.job(id="begun"))
        await r.receiver.wait_for(lambda: any(b"DATA" in raw for raw in r.receiver.raw))
        for number in range(99):
            await r.give(r.job(id=f"waiting{number}"))
        given_back = await r.broker.wait_published(101)
        jobs = [decode(message.body) for message in given_back if message.queue == DUE]
        assert all(isinstance(job, DeliveryJob) and job.attempt == 0 for job in jobs)
        assert all(message.delay_ms in WAIT_STEPS_MS for message in r.broker.delayed())
        assert "begun" not in {message.message_id for message in r.broker.delayed()}


async def test_what_a_partition_is_to_its_worker_is_told(tmp_path: Path) -> None:
    async with limited(tmp_path, Script(), Limits(LONG_TIMES)) as r:
        await asyncio.gather(*(r.give(r.job(f"r{number}@b.test")) for number in range(30)))
        await r.receiver.wait_for(30)

        async def over() -> bool:
            return not r.handling.held()

        await eventually(over, "all is settled")
        assert r.pool.loads() == [Load("default", ended=30)]


async def test_a_job_behind_an_unreachable_one_is_deferred_with_it(tmp_path: Path) -> None:
    limits = Limits(LONG_TIMES)
    async with limited(tmp_path, Script(replies={Stage.BANNER: LATER}), limits) as r:
        for _ in range(5):
            await r.give(r.job())
        published = await r.broker.wait_published(10)
        assert [message.queue for message in published].count(DUE) == 5
        assert r.receiver.connections < 5
