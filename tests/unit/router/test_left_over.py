"""What lies in queues of former plans is routed anew, and none of it is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from services.router.left_over import LeftOvers
from shared.broker.interface import Outgoing, Refused, Unavailable
from shared.broker.topology import DUE, build_topology, lane_queue
from shared.logs import configure_logging
from shared.messages.codec import encode
from shared.messages.model import Content, DeliveryJob, MailExchanger, Recipient
from shared.settings.model import LoggingSettings, LogLevel
from tests.support.memory_broker import MemoryBroker
from tests.unit.router.rig import AGAIN, TEXT, Rig, job_in, sample

OLD = lane_queue("old", 2, "transactional")
FORMER = build_topology([1000], {"default": 1, "old": 3})


def job() -> DeliveryJob:
    return DeliveryJob(
        id="job",
        mail_id="MAIL",
        accepted_at=1000.0,
        reverse_path="me@s.test",
        recipients=(Recipient("a@mx.test"),),
        content=Content(len(TEXT), memoryview(TEXT)),
        destination="mx.test",
        exchangers=(MailExchanger(1, "former.test"),),
        site="former.test",
        attempt=3,
    )


async def test_a_job_of_a_lane_that_is_gone_is_routed_under_the_plan_of_today(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LoggingSettings(format="json", level=LogLevel.DEBUG))
    await rig.restart()
    former = rig.broker.beside(FORMER)
    await former.publish(Outgoing(OLD, encode(job()), "job"))
    await rig.restart()
    (back,) = await rig.successors(1, 1)
    assert (back.queue, back.delay_ms, back.message_id) == (DUE, 1000, "job")
    rig.broker.elapse()
    (_, routed) = await rig.successors(1, 2)
    again = job_in(routed)
    assert (routed.queue, again.id, again.attempt) == (AGAIN, "job", 3)
    assert (again.site, again.exchangers[0].host) == ("mail.mx.test", "mail.mx.test")
    assert rig.broker.waiting(OLD) == []
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (line,) = [line for line in told if line["event"] == "given_back"]
    assert (line["job_id"], line["reason"], line["level"]) == ("job", "left_over", "debug")


class Forgetful(MemoryBroker):
    """Cannot tell what is left over until the second question."""

    asked = 0

    async def left_over(self) -> Sequence[str]:
        self.asked += 1
        if self.asked == 1:
            raise Unavailable("not connected")
        return await super().left_over()


async def test_a_broker_that_cannot_tell_is_asked_again_and_new_queues_are_found() -> None:
    broker = Forgetful()
    left_overs = LeftOvers(broker, prefetch=2, pause=0.005)
    left_overs.start()
    former = broker.beside(FORMER)
    for number in range(5):
        await former.publish(Outgoing(OLD, b"job", str(number)))
    moved = (await broker.wait_published(10))[5:]
    assert [message.message_id for message in moved] == list("01234")
    assert {message.queue for message in moved} == {DUE}
    await left_overs.stop()
    await former.publish(Outgoing(OLD, b"job", "late"))
    assert [message.message_id for message in broker.waiting(OLD)] == ["late"]


async def test_a_queue_that_is_left_over_no_more_is_left_alone() -> None:
    broker = MemoryBroker()
    former = broker.beside(FORMER)
    left_overs = LeftOvers(broker, prefetch=2, pause=0.005)
    left_overs.start()
    await former.publish(Outgoing(OLD, b"job", "first"))
    await broker.wait_published(2)
    broker.topology = FORMER
    async with asyncio.timeout(5):
        while left_overs.serves(OLD):
            await asyncio.sleep(0)
    await former.publish(Outgoing(OLD, b"job", "second"))
    assert [message.message_id for message in broker.waiting(OLD)] == ["second"]
    await left_overs.stop()


@pytest.mark.parametrize("confirmed", [True, False])
async def test_stopping_waits_until_what_was_taken_is_durable_elsewhere(confirmed: bool) -> None:
    before = sample("in_flight_jobs")
    broker = MemoryBroker()
    former = broker.beside(FORMER)
    await former.publish(Outgoing(OLD, b"job", "job"))
    broker.fail(Refused("disk full"))
    left_overs = LeftOvers(broker, prefetch=2, pause=60)
    left_overs.start()
    async with asyncio.timeout(5):
        while sample("in_flight_jobs") == before:
            await asyncio.sleep(0)
    stopped = asyncio.ensure_future(left_overs.stop())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not stopped.done()
    if confirmed:
        broker.resume()
    else:
        await broker.close()
    await asyncio.wait_for(stopped, 5)
    kept = [message.message_id for message in broker.waiting(OLD)]
    assert kept == ([] if confirmed else ["job"])
    assert [m.queue for m in broker.published[1:]] == ([DUE] if confirmed else [])
    assert sample("in_flight_jobs") == before
