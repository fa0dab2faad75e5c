"""What delivery tells of its attempts over real connections: of TLS, limits, losses and parking."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.demo.script import NO_SUCH_MAILBOX, Script, Stage
from shared.broker.interface import Outgoing
from shared.broker.parking import QUEUE, REASON
from shared.broker.topology import DUE, GUARANTEED_EVENTS, PARKED
from shared.events.codec import decode_event
from shared.events.model import MailEvent
from shared.messages.model import Content
from tests.integration.test_delivery import LANE, LATER, NEVER, Rig, rig
from tests.integration.test_delivery_tls import server_context

ALWAYS = {"publish": "always"}
OWED = {"publish": "never", "guaranteed": ["default"]}


async def told(r: Rig, *kinds: str) -> list[MailEvent]:
    """All ordinary events, once they are of these kinds."""
    async with asyncio.timeout(10):
        while [event.event for event in r.broker.events.events()] != list(kinds):
            await asyncio.sleep(0.01)
    return r.broker.events.events()


def owed(published: list[Outgoing]) -> list[MailEvent]:
    return [decode_event(one.body) for one in published if one.queue == GUARANTEED_EVENTS]


async def test_facts_of_tls_are_told_and_whether_it_was_resumed(tmp_path: Path) -> None:
    async with rig(tmp_path, tls=server_context(), events=ALWAYS, idle_timeout="50ms") as r:
        await r.give(r.job())
        _, first = await told(r, "attempted", "delivered")
        async with asyncio.timeout(10):
            while r.receiver.open_connections:
                await asyncio.sleep(0.01)
        await r.give(r.job())
        *_, second = await told(r, *("attempted", "delivered") * 2)
    assert first.hop is not None
    assert second.hop is not None
    assert (first.hop.host, first.hop.address, first.hop.port) == (
        "mx.b.test", "127.0.0.1", r.receiver.port,
    )  # fmt: skip
    assert first.hop.tls is not None
    assert second.hop.tls is not None
    assert first.hop.tls.version == "TLSv1.3"
    assert first.hop.tls.cipher.startswith("TLS_")
    assert (first.hop.tls.resumed, second.hop.tls.resumed) == (False, True)


async def test_recipients_with_the_same_fate_are_told_of_together(tmp_path: Path) -> None:
    script = Script(recipients={"x@": LATER, "y@": LATER, "z@": NEVER, "w@": NO_SUCH_MAILBOX})
    names = ("a", "x", "y", "z", "w", "b")
    async with rig(tmp_path, script, events=ALWAYS) as r:
        job = r.job(*(f"{name}@b.test" for name in names), attempt=2, tenant="shop")
        await r.give(job)
        attempted, *rest = await told(r, "attempted", "delivered", "deferred", "bounced", "bounced")
    assert attempted.outcomes == {"delivered": 2, "deferred": 2, "failed": 2}
    assert [(event.recipients, event.reply) for event in rest] == [
        (("a@b.test", "b@b.test"), "250 2.0.0 Ok"),
        (("x@b.test", "y@b.test"), str(LATER)),
        (("z@b.test",), str(NEVER)),
        (("w@b.test",), str(NO_SUCH_MAILBOX)),
    ]
    assert {event.attempt for event in rest} == {3}
    assert {(event.tenant, event.lane, event.job_id) for event in rest} == {
        ("shop", "default", job.id)
    }
    assert len({event.id for event in rest}) == 4
    assert [bool(event.notification) for event in rest] == [False, False, True, True]


async def test_an_attempt_that_reaches_nobody_is_told_without_a_hop(tmp_path: Path) -> None:
    script = Script(replies={Stage.BANNER: LATER})
    async with rig(tmp_path, script, events=ALWAYS) as r:
        await r.give(r.job())
        attempted, deferred = await told(r, "attempted", "deferred")
    assert (attempted.hop, attempted.outcomes) == (None, {"deferred": 1})
    assert "4.3.0 Later" in deferred.reply
    assert (deferred.reason, deferred.delay_seconds) == ("other", 1.0)


@pytest.mark.parametrize(
    ("policy", "kinds", "delay"),
    [
        ("retry", ("attempted", "uncertain"), 1.0),
        ("sent", ("attempted", "uncertain"), 0.0),
        ("hold", ("attempted", "uncertain", "parked"), 0.0),
    ],
)
async def test_an_uncertain_outcome_is_told_with_the_policy(
    tmp_path: Path, policy: str, kinds: tuple[str, ...], delay: float
) -> None:
    lost = Script(drop_at=frozenset({Stage.DOT}))
    async with rig(tmp_path, lost, events=ALWAYS, uncertain=policy) as r:
        await r.give(r.job())
        events = await told(r, *kinds)
    assert events[0].outcomes == {"unknown": 1}
    assert (events[1].reason, events[1].delay_seconds) == (policy, delay)
    assert [event.reason for event in events[2:]] == ["uncertain"] * len(events[2:])


async def test_a_recipient_that_is_too_old_expires(tmp_path: Path) -> None:
    async with rig(tmp_path, Script(replies={Stage.MAIL: LATER}), events=ALWAYS) as r:
        await r.give(r.job(accepted_at=1000.0, attempt=1))
        _, expired = await told(r, "attempted", "expired")
    assert (expired.reason, bool(expired.notification)) == ("expired", True)
    assert expired.queue_seconds > 1e9


async def test_a_job_without_a_turn_is_told_to_be_throttled(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"messages_per_second": 0.01, "connections": 1}
    async with rig(tmp_path, events=ALWAYS, **limits) as r:
        jobs = [r.job() for _ in range(5)]
        for job in jobs:
            await r.give(job)
        async with asyncio.timeout(10):
            while not (throttled := _throttled(r)):
                await asyncio.sleep(0.01)
        again = next(one for one in r.broker.published if one.queue == DUE)
    event = throttled[0]
    assert (event.job_id, event.reason, event.attempt) == (again.message_id, "limit", 0)
    assert event.delay_seconds * 1000 == again.delay_ms


def _throttled(r: Rig) -> list[MailEvent]:
    return [event for event in r.broker.events.events() if event.event == "throttled"]


@pytest.mark.parametrize("events", [ALWAYS, OWED], ids=["ordinary", "owed"])
async def test_a_job_without_its_content_is_told_to_be_parked(
    tmp_path: Path, events: dict[str, Any]
) -> None:
    async with rig(tmp_path, events=events) as r:
        job = r.job(content=Content(3, blob="gone"))
        await r.give(job)
        async with asyncio.timeout(10):
            while not (r.broker.published_to(PARKED) and tells(r)):
                await asyncio.sleep(0.01)
        (parked,) = r.broker.published_to(PARKED)
        (event,) = tells(r)
    assert (parked.headers[REASON], parked.headers[QUEUE]) == ("content_missing", LANE)
    assert (event.event, event.reason, event.job_id) == ("parked", "content_missing", job.id)


def tells(r: Rig) -> list[MailEvent]:
    return r.broker.events.events() + owed(r.broker.published)


async def test_the_events_that_are_owed_come_before_the_job_is_settled(tmp_path: Path) -> None:
    async with rig(tmp_path, events=OWED) as r:
        await r.give(r.job())
        r.broker.stall()
        await r.receiver.wait_for(1)
        for _ in range(20):
            await asyncio.sleep(0.01)  # the reply is read meanwhile
        assert owed(r.broker.published) == []
        assert len(r.service._handling.held()) == 1
        r.broker.resume()
        published = await r.broker.wait_published(3)
        assert [event.event for event in owed(published)] == ["attempted", "delivered"]
        assert not r.service._handling.held()
        assert r.broker.events.told == []


async def test_what_follows_a_deferral_and_its_event_are_owed_together(tmp_path: Path) -> None:
    async with rig(tmp_path, Script(recipients={"x@": LATER}), events=OWED) as r:
        published = await r.successors(r.job("x@b.test", "a@b.test"), 4)
    assert [one.queue for one in published] == [DUE, *[GUARANTEED_EVENTS] * 3]
    events = owed(list(published))
    assert [event.event for event in events] == ["attempted", "delivered", "deferred"]
    assert [one.message_id for one in published[1:]] == [event.id for event in events]


async def test_another_tenant_owes_nothing(tmp_path: Path) -> None:
    events = {"publish": "never", "guaranteed": ["bank"]}
    async with rig(tmp_path, events=events) as r:
        await r.give(r.job(tenant="shop"))
        await r.receiver.wait_for(1)
        await r.service.drain()
        assert len(r.broker.published) == 1
