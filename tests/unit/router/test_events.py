"""What the router tells of the mail that it routes, puts off, gives up and parks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.broker.interface import Outgoing
from shared.broker.topology import ACCEPTED, GUARANTEED_EVENTS, PARKED, build_topology
from shared.events.codec import decode_event
from shared.events.model import MailEvent
from shared.messages.codec import encode
from shared.messages.ids import job_id
from shared.settings.telling import EventSettings
from tests.unit.router.rig import TRANSACTIONAL, Rig, large, mail

ALWAYS: dict[str, Any] = {"events": EventSettings.model_validate({"publish": "always"})}
OWED: dict[str, Any] = {"events": EventSettings.model_validate({"guaranteed": ["default"]})}


async def told(rig: Rig) -> list[MailEvent]:
    """All that was told of the one mail, once the router has ended."""
    await rig.router.drain()
    return [event for event in rig.broker.events.events() if event.mail_id == "MAIL"]


async def started(rig: Rig, **settings: Any) -> None:
    await rig.router.drain()
    await rig.start(**settings)


async def test_each_job_is_told_with_its_lane_and_recipients(rig: Rig) -> None:
    await started(rig, **ALWAYS)
    addresses = [f"{number}@static.test" for number in range(4)]
    jobs = await rig.route(mail(*addresses), 2)
    events = await told(rig)
    assert [(event.event, event.job_id, len(event.recipients)) for event in events] == [
        ("routed", jobs[0].message_id, 3), ("routed", jobs[1].message_id, 1),
    ]  # fmt: skip
    assert {(event.lane, event.site, event.at) for event in events} == {
        ("default", "127.0.0.1:2500", rig.now)
    }


async def test_who_is_given_up_is_told_to_bounce_and_by_which_notification(rig: Rig) -> None:
    await started(rig, **ALWAYS)
    await rig.route(mail("a@null.test"), 1)
    (event,) = await told(rig)
    assert (event.event, event.recipients) == ("bounced", ("a@null.test",))
    assert event.notification == job_id("MAIL", "dsn of the router", 0)
    assert event.reply.startswith("55")


async def test_of_the_null_reverse_path_nobody_is_notified_and_a_copy_is_parked(rig: Rig) -> None:
    await started(rig, **ALWAYS)
    await rig.route(mail("a@null.test", reverse_path=""), 1)
    bounced, parked = await told(rig)
    assert (bounced.event, bounced.notification) == ("bounced", "")
    assert (parked.event, parked.reason) == ("parked", "dsn_failed")


async def test_who_cannot_be_looked_up_is_told_to_be_deferred(rig: Rig) -> None:
    await started(rig, **ALWAYS)
    (waiting,) = await rig.route(mail("a@down.test"), 1)
    (event,) = await told(rig)
    assert (event.event, event.reason, event.attempt) == ("deferred", "dns", 1)
    assert event.delay_seconds * 1000 == waiting.delay_ms


@pytest.mark.parametrize("settings", [ALWAYS, OWED], ids=["ordinary", "owed"])
async def test_a_mail_without_its_content_is_told_to_be_parked(
    rig: Rig, settings: dict[str, Any]
) -> None:
    rig.broker.topology = build_topology([1000, 2000], {"default": 1}, events=True)
    await started(rig, **settings)
    await rig.route(large("a@null.test", blob="gone"), 1)
    ordinary = await told(rig)
    owed = [decode_event(one.body) for one in rig.broker.published_to(GUARANTEED_EVENTS)]
    (event,) = ordinary or owed
    assert (event.event, event.reason) == ("parked", "content_missing")
    assert len(rig.broker.published_to(PARKED)) == 1


async def test_jobs_and_the_events_that_are_owed_are_stored_together(rig: Rig) -> None:
    rig.broker.topology = build_topology([1000, 2000], {"default": 1}, events=True)
    await started(rig, **OWED)
    rig.broker.stall()
    await_nothing = rig.broker.publish(Outgoing(ACCEPTED, encode(mail("a@static.test")), "MAIL"))
    rig.broker.resume()
    await await_nothing
    async with asyncio.timeout(5):
        while not rig.broker.published_to(GUARANTEED_EVENTS):
            await asyncio.sleep(0)
    (message,) = rig.broker.published_to(GUARANTEED_EVENTS)
    event = decode_event(message.body)
    (job,) = rig.broker.published_to(TRANSACTIONAL)
    assert (event.event, event.job_id) == ("routed", job.message_id)
    assert rig.broker.waiting(ACCEPTED) == []
    assert await told(rig) == []


async def test_each_wait_for_the_content_store_is_an_event_of_its_own(rig: Rig) -> None:
    await started(rig, **ALWAYS)
    rig.store.down = True
    for _ in range(2):
        await rig.route(large("a@null.test"), 1)
        rig.now += 1
    first, second = await told(rig)
    assert (first.event, first.reason, first.attempt) == ("deferred", "store", 0)
    assert first.id != second.id
