"""A receiver that is lost between the content and its reply: what each policy makes of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.demo.receiver import Receiver, Script, Stage
from shared.broker.parking import REASON
from shared.broker.topology import DUE, PARKED
from shared.logs import configure_logging
from shared.messages.codec import decode
from shared.messages.model import Content, DeliveryJob, MailExchanger, Recipient
from shared.settings.model import LoggingSettings
from tests.integration.test_delivery import LATER, TEXT, Rig, retried, rig
from tests.support.raw_peer import Conversation, RawPeer

LOST = Script(drop_at=frozenset({Stage.DOT}))
MIXED = Script(drop_at=frozenset({Stage.DOT}), recipients={"later@": LATER})


def counted(policy: str) -> float:
    value = REGISTRY.get_sample_value("postroad_uncertain_outcomes_total", {"policy": policy})
    return value or 0.0


async def files(r: Rig, tmp_path: Path) -> list[Path]:
    await r.service.drain()
    return [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_retry_sends_it_once_more(tmp_path: Path) -> None:
    before = counted("retry")
    async with rig(tmp_path, LOST) as r:
        (later,) = await r.successors(r.job("a@b.test", "c@b.test"))
        assert retried(later).recipients == (Recipient("a@b.test"), Recipient("c@b.test"))
        assert counted("retry") - before == 2


async def test_sent_is_the_end_of_the_job_and_of_its_content(tmp_path: Path) -> None:
    before = counted("sent")
    async with rig(tmp_path, LOST, uncertain="sent") as r:
        await r.store.put("aa/mail", TEXT)
        await r.give(r.job(content=Content(len(TEXT), blob="aa/mail")))
        await r.receiver.wait_for(lambda: bool(r.receiver.unanswered))
        assert await files(r, tmp_path) == []
        assert len(r.broker.published) == 1
        assert counted("sent") - before == 1


async def test_hold_parks_those_recipients_only_and_keeps_the_content(tmp_path: Path) -> None:
    before = counted("hold")
    async with rig(tmp_path, MIXED, uncertain="hold") as r:
        await r.store.put("aa/mail", TEXT)
        job = r.job("a@b.test", "later@b.test", content=Content(len(TEXT), blob="aa/mail"))
        later, parked = await r.successors(job, 2)
        assert retried(later).recipients == (Recipient("later@b.test"),)
        assert (parked.queue, parked.headers[REASON]) == (PARKED, "uncertain")
        held = decode(parked.body)
        assert isinstance(held, DeliveryJob)
        assert held.recipients == (Recipient("a@b.test"),)
        assert [path.name for path in await files(r, tmp_path)] == ["mail"]
        assert counted("hold") - before == 1


async def test_a_held_job_can_be_sent_again_and_then_ends_the_content(tmp_path: Path) -> None:
    async with rig(tmp_path, MIXED, uncertain="hold") as r:
        await r.store.put("aa/mail", TEXT)
        job = r.job("a@b.test", "later@b.test", content=Content(len(TEXT), blob="aa/mail"))
        successors = await r.successors(job, 2)
        r.receiver.script = Script()
        for message in successors:
            again = decode(message.body)
            assert isinstance(again, DeliveryJob)
            await r.give(again)
        await r.receiver.wait_for(2)
        assert await files(r, tmp_path) == []


async def test_a_tenant_may_have_a_policy_of_its_own(tmp_path: Path) -> None:
    async with rig(tmp_path, LOST, uncertain_by_tenant={"bank": "hold"}) as r:
        assert (await r.successors(r.job(tenant="bank")))[0].queue == PARKED
    async with rig(tmp_path, LOST, uncertain_by_tenant={"bank": "hold"}) as r:
        assert (await r.successors(r.job(tenant="shop")))[0].queue == DUE


@pytest.mark.parametrize("policy", ["retry", "sent", "hold"])
async def test_nobody_else_is_sent_the_mail_and_the_event_names_the_policy(
    tmp_path: Path, policy: str, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LoggingSettings(format="json"))
    async with rig(tmp_path, LOST, uncertain=policy) as r, Receiver() as worse:
        exchangers = tuple(
            MailExchanger(n, "mx.b.test", one.port) for n, one in enumerate((r.receiver, worse))
        )
        await r.give(r.job(exchangers=exchangers))
        await r.receiver.wait_for(lambda: bool(r.receiver.unanswered))
        await r.service.drain()
        assert worse.connections == 0
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    events = [(line["event"], line["reason"]) for line in lines if "mail_id" in line]
    parked = [("parked", "uncertain")] if policy == "hold" else []
    assert events == [("uncertain", policy), *parked]


async def test_an_uncertain_outcome_after_the_last_moment_is_notified(tmp_path: Path) -> None:
    async with rig(tmp_path, LOST) as r:
        (dsn,) = await r.successors(r.job(accepted_at=1.0, attempt=5))
        assert b"4.4.7" in dsn.body


@pytest.mark.parametrize("verb", [b"MAIL", b"RCPT", b"DATA"])
@pytest.mark.parametrize("farewell", [b"421 4.3.2 enough for today\r\n", b""])
async def test_a_worn_connection_costs_no_attempt(
    tmp_path: Path, verb: bytes, farewell: bytes
) -> None:
    """The peer takes one mail a connection, and says so in the middle of the next."""

    async def behave(peer: Conversation) -> None:
        await peer.greet()
        left = 1
        while line := await peer.line():
            if left == 0 and line.startswith(verb):
                await peer.say(farewell)
                return
            if line == b"DATA\r\n":
                await peer.say(b"354 go\r\n")
                await peer.until(b".\r\n")
                left -= 1
                taken.append(left)
            await peer.say(b"250 ok\r\n")
            if len(taken) == 2:
                both.set()

    taken: list[int] = []
    both = asyncio.Event()
    async with rig(tmp_path, connections=1) as r, RawPeer(behave) as peer:
        exchangers = (MailExchanger(10, "mx.b.test", peer.port),)
        for _ in range(2):
            await r.give(r.job(exchangers=exchangers))
        async with asyncio.timeout(5):
            await both.wait()
        await r.service.drain()
        assert taken == [0, 0]
        assert peer.connections == 2
        assert len(r.broker.published) == 2
