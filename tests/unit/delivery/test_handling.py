"""What the worker is told of a job besides what is in it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import cast

import msgspec
import pytest

from services.delivery.handling import Handling
from services.delivery.placing import Placing, queues_of
from services.delivery.pool import Pool
from services.delivery.waiting import AGAIN
from services.delivery.work import Work
from shared.broker.interface import Outgoing
from shared.broker.topology import ACCEPTED, DUE, build_topology, lane_queue
from shared.content.store import open_store
from shared.messages.codec import decode, encode
from shared.messages.model import (
    AcceptedMail,
    Content,
    DeliverBy,
    DeliveryJob,
    DsnWishes,
    MailExchanger,
    MessageClass,
    Recipient,
)
from shared.settings.model import ContentStoreSettings, Settings
from shared.settings.shaping import LaneSettings
from tests.support.memory_broker import MemoryBroker


class Collector:
    """In place of the pool."""

    def __init__(self) -> None:
        self.works: list[Work] = []

    def submit(self, work: Work) -> None:
        self.works.append(work)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("kind", list(MessageClass))
async def test_a_job_counts_for_the_queue_it_came_from(
    tmp_path: Path, kind: MessageClass, again: bool
) -> None:
    settings = Settings(
        content_store=ContentStoreSettings(url=f"file://{tmp_path}"),
        lanes=(LaneSettings(name="default", partitions=1),),
    )
    placing, collector, broker = Placing(settings), Collector(), MemoryBroker()
    handling = Handling(settings, open_store(settings.content_store), placing)
    handling.attach(cast("Pool", collector))
    (partition,) = placing.partitions()
    queue = next(name for name in queues_of(partition, again=again) if kind.value in name)
    broker.consume(queue, 1, handling.handle)
    job = DeliveryJob(
        id="job",
        mail_id="mail",
        accepted_at=1.0,
        reverse_path="s@a.test",
        recipients=(Recipient("r@b.test"),),
        content=Content(3, memoryview(b"x\r\n")),
        destination="b.test",
        exchangers=(MailExchanger(10, "mx.b.test", 25),),
        site="mx.b.test",
        message_class=kind,
    )
    await broker.publish(Outgoing(queue, encode(job), job.id))
    (work,) = collector.works
    assert work.queue == (kind is MessageClass.TRANSACTIONAL) + AGAIN * again
    await broker.close()


@pytest.mark.parametrize(
    ("by", "delay_ms"),
    [
        (None, 600_000),
        (DeliverBy(1060.0), 600_000),
        (DeliverBy(1060.0, returns=True), 30_000),
        (DeliverBy(1001.0, returns=True), 5_000),
    ],
)
async def test_a_job_that_has_no_turn_yet_comes_again_before_its_deadline(
    tmp_path: Path, by: DeliverBy | None, delay_ms: int
) -> None:
    settings = Settings(
        content_store=ContentStoreSettings(url=f"file://{tmp_path}"),
        lanes=(LaneSettings(name="default", partitions=1),),
    )
    broker, collector = MemoryBroker(build_topology([1000], {"default": 1})), Collector()
    store, placing = open_store(settings.content_store), Placing(settings)
    handling = Handling(settings, store, placing, clock=lambda: 1000.0)
    handling.attach(cast("Pool", collector))
    job = DeliveryJob(
        id="job",
        mail_id="mail",
        accepted_at=999.0,
        reverse_path="s@a.test",
        recipients=(Recipient("r@b.test"),),
        content=Content(3, memoryview(b"x\r\n")),
        destination="b.test",
        exchangers=(),
        site="b.test",
        deliver_by=by,
    )
    lane = lane_queue("default", 0, "transactional")
    broker.consume(lane, 1, handling.handle)
    await broker.publish(Outgoing(lane, encode(job), job.id))
    await broker.wait_published(1)
    while not collector.works:
        await asyncio.sleep(0)
    handling.give_back(collector.works[0], 600_000, "limit")
    again = (await broker.wait_published(2))[1]
    assert (again.queue, again.delay_ms) == (DUE, delay_ms)
    await handling.settled()


NOW = 100_000.0
LATE = {"dsn": DsnWishes(), "recipients": (Recipient("r@b.test", "DELAY"), Recipient("q@b.test"))}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (LATE, ["r@b.test"]),
        ({**LATE, "dsn": DsnWishes(told_of_delay=True)}, []),
        ({**LATE, "accepted_at": NOW - 60}, []),
        ({**LATE, "reverse_path": ""}, []),
        ({"recipients": (Recipient("r@b.test"),), "deliver_by": DeliverBy(NOW - 1)}, ["r@b.test"]),
    ],
)
async def test_who_asked_is_told_once_that_a_mail_waits_for_its_turn(
    tmp_path: Path, fields: dict[str, object], told: list[str]
) -> None:
    settings = Settings(
        content_store=ContentStoreSettings(url=f"file://{tmp_path}"),
        lanes=(LaneSettings(name="default", partitions=1),),
    )
    broker, collector = MemoryBroker(build_topology([1000], {"default": 1})), Collector()
    store, placing = open_store(settings.content_store), Placing(settings)
    handling = Handling(settings, store, placing, clock=lambda: NOW)
    handling.attach(cast("Pool", collector))
    job = {
        "type": "job",
        "id": "job",
        "mail_id": "mail",
        "accepted_at": 1.0,
        "reverse_path": "s@a.test",
        "content": {"size": 5, "inline": b"A: b\r\n\r\n"},
        "destination": "b.test",
        "exchangers": [],
        "site": "b.test",
    }
    lane = lane_queue("default", 0, "transactional")
    broker.consume(lane, 1, handling.handle)
    await broker.publish(Outgoing(lane, msgspec.msgpack.encode({**job, **fields}), "job"))
    while not collector.works:
        await asyncio.sleep(0)
    for _ in range(2):
        handling.give_back(collector.works.pop(), 1000, "limit")
        await handling.settled()
        (later,) = [message for message in broker.published if message.queue == DUE][-1:]
        await broker.publish(Outgoing(lane, later.body, "job"))
        while not collector.works:
            await asyncio.sleep(0)
    notices = [decode(one.body) for one in broker.published if one.queue == ACCEPTED]
    assert len(notices) == bool(told)
    for notice in notices:
        assert isinstance(notice, AcceptedMail)
        text = bytes(notice.content.inline).decode()
        assert "Action: delayed" in text
        assert re.findall(r"Final-Recipient: rfc822; ?(\S+)", text) == told
