"""A job that comes twice is sent once: the contract's rule 6, and faults 4, 5 and 11."""

from __future__ import annotations

from pathlib import Path

from services.demo.receiver import Script, Stage
from shared.broker.topology import DUE
from tests.integration.test_delivery import LANE, LATER, rig


async def test_a_job_that_comes_again_after_its_delivery_is_not_sent_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        job = r.job()
        await r.give(job)
        await r.receiver.wait_for(1)
        await r.give(job)
        await r.give(r.job("other@b.test"))
        await r.receiver.wait_for(2)
        await r.service.drain()
        assert [mail.recipients for mail in r.receiver.messages] == [
            ("r@b.test",),
            ("other@b.test",),
        ]
        assert r.broker.waiting(LANE) == []


async def test_a_job_that_comes_again_while_it_is_sent_is_sent_once(tmp_path: Path) -> None:
    script = Script(delays={Stage.DOT: 0.1})
    async with rig(tmp_path, script) as r:
        job = r.job()
        await r.give(job)
        await r.receiver.wait_for(lambda: any(b"DATA" in raw for raw in r.receiver.raw))
        await r.give(job)
        await r.receiver.wait_for(1)
        await r.service.drain()
        assert len(r.receiver.messages) == 1
        assert r.broker.waiting(LANE) == []


async def test_the_retry_of_a_job_that_was_partly_delivered_is_the_same_when_it_comes_again(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path, Script(recipients={"later@": LATER})) as r:
        job = r.job("yes@b.test", "later@b.test")
        await r.give(job)
        await r.broker.wait_published(2)
        await r.give(job)
        published = await r.broker.wait_published(4)
        assert [message.queue for message in published[1::2]] == [DUE, DUE]
        assert published[1].body == published[3].body
        assert len(r.receiver.messages) == 1


async def test_a_job_that_was_only_deferred_is_tried_when_it_comes_again(tmp_path: Path) -> None:
    async with rig(tmp_path, Script(replies={Stage.MAIL: LATER})) as r:
        job = r.job()
        await r.successors(job)
        r.receiver.script = Script()
        await r.give(job)
        await r.receiver.wait_for(1)


async def test_a_retry_of_a_delivered_id_is_an_attempt_of_its_own(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.give(r.job(id="same"))
        await r.receiver.wait_for(1)
        await r.give(r.job(id="same", attempt=1))
        await r.receiver.wait_for(2)
