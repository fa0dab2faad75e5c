from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from shared.broker.connect import connect_broker
from shared.broker.interface import Delivery
from shared.broker.topology import ACCEPTED
from shared.content.store import open_store
from shared.messages.codec import decode
from shared.messages.model import AcceptedMail, Content, DeliveryJob
from shared.plan.lanes import LanePlan
from shared.plan.limits import LimitTable
from shared.settings.load import load_settings
from tests.bench.prefill import accept, content, new_ids, queue_jobs
from tests.support.pipeline import Pipeline, eventually


async def queued(config: Path, queue: str, count: int) -> list[Delivery]:
    broker = connect_broker(load_settings(config), "test")
    await broker.start()
    found: list[Delivery] = []
    broker.consume(queue, count, found.append)

    async def enough() -> bool:
        return len(found) >= count

    await eventually(enough, f"{count} messages in {queue}")
    await broker.close()
    return found


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return Pipeline(tmp_path, f"embedded://{tmp_path}/broker", {}).config


@pytest.mark.parametrize("octets", [46, 100, 4096, 1 << 20])
def test_a_content_has_the_size_that_was_asked_for_and_whole_lines(octets: int) -> None:
    made = content(octets)
    assert len(made) == octets
    assert made.endswith(b"\r\n")
    assert made.count(b"\n") == made.count(b"\r") == made.count(b"\r\n")


def test_ids_are_new_and_sort_by_time() -> None:
    ids = list(itertools.islice(new_ids(1), 300)) + list(itertools.islice(new_ids(2), 300))
    assert len(set(ids)) == 600
    assert ids == sorted(ids)


async def test_accepted_mail_is_what_ingress_would_publish(config: Path) -> None:
    await accept(config, ["a@x.example", "b@x.example"], 100)
    mails = [decode(delivery.body) for delivery in await queued(config, ACCEPTED, 2)]
    assert all(isinstance(mail, AcceptedMail) and len(mail.content.inline) == 100 for mail in mails)
    assert {mail.recipients[0].address for mail in mails if isinstance(mail, AcceptedMail)} == {
        "a@x.example",
        "b@x.example",
    }


async def test_jobs_lie_where_the_plan_looks_for_them(config: Path) -> None:
    settings = load_settings(config)
    plan = LanePlan(settings.lanes, LimitTable(settings.limits))
    await queue_jobs(config, [("a@x.example", "127.1.0.1:2525")], 100)
    broker = connect_broker(settings, "test")
    await broker.start()
    filled = [queue for queue, depth in (await broker.depths()).items() if depth]
    await broker.close()
    (delivery,) = await queued(config, filled[0], 1)
    job = decode(delivery.body)
    assert isinstance(job, DeliveryJob)
    assert filled == [plan.place(job).queue]
    assert (job.exchangers[0].host, job.exchangers[0].port) == ("127.1.0.1", 2525)


async def test_a_large_content_lies_in_the_content_store(config: Path) -> None:
    settings = load_settings(config)
    octets = settings.content_store.inline_max_bytes + 1
    await queue_jobs(config, [("a@x.example", "127.1.0.1:2525")], octets)
    plan = LanePlan(settings.lanes, LimitTable(settings.limits))
    site = "127.1.0.1:2525"
    made = DeliveryJob("j", "m", 0.0, "", (), Content(0), site, (), site=site)
    (delivery,) = await queued(config, plan.place(made).queue, 1)
    job = decode(delivery.body)
    assert isinstance(job, DeliveryJob)
    assert (job.content.size, len(job.content.inline)) == (octets, 0)
    assert await open_store(settings.content_store).get(job.content.blob) == content(octets)
