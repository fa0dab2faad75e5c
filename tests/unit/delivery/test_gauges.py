"""What a worker shows of the jobs that it holds: those at work, and those not looked at yet."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from services.delivery.gauges import Gauges, ages, by_provider
from services.delivery.handling import Handling
from services.delivery.holding import Partition, Prefetch
from services.delivery.partitions import Partitions
from services.delivery.placing import Placing
from services.delivery.pool import Pool
from services.delivery.work import Work
from shared.broker.interface import Outgoing
from shared.broker.topology import lane_queue
from shared.content.store import open_store
from shared.messages.codec import encode
from shared.messages.model import Content, DeliveryJob, MailExchanger, MessageClass, Recipient
from shared.settings.model import ContentStoreSettings, Settings
from shared.settings.shaping import LaneSettings
from tests.support.memory_broker import MemoryBroker

NOW = 10_000.0
PARTITION = Partition("default", 0)
TRANSACTIONAL, BULK = (lane_queue("default", 0, kind.value) for kind in MessageClass)
AGAIN = lane_queue("default", 0, "bulk", again=True)

MANY = 400
"""Jobs that come again: more than are looked at before a test goes on."""


class Idle:
    """In place of the pool: it holds what it is given."""

    def __init__(self) -> None:
        self.works: list[Work] = []

    def submit(self, work: Work) -> None:
        self.works.append(work)

    def take(self, *_: Any, **__: Any) -> None:
        """Nothing to do."""

    def left_alone(self) -> Mapping[str, int]:
        return {"google": 2, "of a plan that is gone": 1}


class Desk:
    """The parts of a worker that hold jobs, without connections."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(
            content_store=ContentStoreSettings(url=f"file://{folder}"),
            lanes=(LaneSettings(name="default", partitions=1),),
        )
        placing = Placing(settings)
        self.pool, self.broker = Idle(), MemoryBroker()
        pool = cast("Pool", self.pool)
        self.handling = Handling(settings, open_store(settings.content_store), placing)
        self.handling.attach(pool)
        self.partitions = Partitions(self.broker, pool, self.handling.handle, Prefetch(MANY, MANY))
        self.gauges = Gauges(
            self.handling.held,
            self.partitions.not_looked_at,
            placing.partition,
            self.pool.left_alone,
            lanes=["default"],
            providers=["google", "other"],
            clock=lambda: NOW,
        )

    async def give(self, queue: str, *accepted: float, turn: float = 0.0) -> None:
        kind = MessageClass.BULK if "bulk" in queue else MessageClass.TRANSACTIONAL
        jobs = []
        for at in accepted:
            job = DeliveryJob(
                id=f"{queue}{at}",
                mail_id="mail",
                accepted_at=at,
                reverse_path="s@a.test",
                recipients=(Recipient("r@b.test"),),
                content=Content(3, memoryview(b"x\r\n")),
                destination="b.test",
                exchangers=(MailExchanger(10, "mx.b.test", 25),),
                site="mx.b.test",
                turn=turn,
                message_class=kind,
            )
            jobs.append(self.broker.publish(Outgoing(queue, encode(job), job.id)))
        await asyncio.gather(*jobs)

    def oldest(self) -> Sequence[float | None]:
        """What is shown of transactional mail and of bulk."""
        self.gauges.look()
        return [
            REGISTRY.get_sample_value(
                "postroad_oldest_message_seconds", {"lane": "default", "class": kind.value}
            )
            for kind in MessageClass
        ]


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_age_is_that_of_the_oldest_of_each_group_and_never_negative() -> None:
    groups = [("a", "bulk"), ("b", "bulk"), ("c", "bulk")]
    accepted = [(groups[0], 90.0), (groups[0], 40.0), (groups[0], 60.0), (groups[1], 101.0)]

    assert ages(accepted, groups, 100.0) == {groups[0]: 60.0, groups[1]: 0.0, groups[2]: 0.0}


def test_a_provider_that_is_not_known_is_one_of_the_others() -> None:
    assert by_provider({"strange": 2, "other": 1, "a": 4}, ["a", "b", "other"]) == {
        "a": 4,
        "b": 0,
        "other": 3,
    }


async def test_the_oldest_job_at_work_counts_for_its_class_until_it_ends(desk: Desk) -> None:
    desk.partitions.take(PARTITION, fresh=True)
    assert desk.oldest() == [0, 0]

    await desk.give(TRANSACTIONAL, NOW - 5, NOW - 50, NOW - 20)
    await desk.give(BULK, NOW - 7)
    assert desk.oldest() == [50, 7]

    oldest = next(w for w in desk.pool.works if w.job.accepted_at == NOW - 50)
    desk.handling.release(oldest)
    assert desk.oldest() == [20, 7]
    await desk.broker.close()


async def test_a_job_that_comes_again_counts_before_it_is_looked_at(desk: Desk) -> None:
    desk.partitions.take(PARTITION, fresh=True)
    await desk.give(TRANSACTIONAL, NOW)
    await desk.give(AGAIN, *(NOW - 900 + n for n in range(MANY)), turn=1.0)

    waiting = len(desk.partitions.not_looked_at())
    assert waiting == 1, "there is a portion, and the rest waits"
    assert desk.oldest() == [0, 900]
    desk.pool.works.clear()
    for work in list(desk.handling.held()):
        if work.job.message_class is MessageClass.BULK:
            desk.handling.release(work)
    assert 0 < (desk.oldest()[1] or 0) < 900, "the head of those that wait"
    await desk.broker.close()


async def test_what_cannot_be_read_has_no_age_and_stops_nothing(desk: Desk) -> None:
    desk.partitions.take(PARTITION, fresh=True)
    await desk.give(TRANSACTIONAL, NOW - 3)
    await asyncio.gather(
        *(desk.broker.publish(Outgoing(AGAIN, b"?", f"poison{n}")) for n in range(MANY))
    )
    assert desk.partitions.not_looked_at()
    assert desk.oldest() == [3, 0]
    await desk.broker.close()


async def test_paused_sites_are_shown_by_provider(desk: Desk) -> None:
    desk.gauges.look()
    shown = [
        REGISTRY.get_sample_value("postroad_paused_sites", {"provider": provider})
        for provider in ("google", "other")
    ]
    assert shown == [2, 1]


async def test_the_queues_that_are_served_have_lane_class_and_kind(desk: Desk) -> None:
    assert desk.partitions.served() == {}
    desk.partitions.take(PARTITION, fresh=True)
    assert desk.partitions.served() == {
        TRANSACTIONAL: ("default", "transactional", "first"),
        BULK: ("default", "bulk", "first"),
        f"{TRANSACTIONAL}.again": ("default", "transactional", "again"),
        f"{BULK}.again": ("default", "bulk", "again"),
    }
