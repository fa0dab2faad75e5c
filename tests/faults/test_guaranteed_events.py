"""kill -9 where guaranteed events are stored with what comes next: none is lost, on both brokers.

A step that is done again is told again, under the same id.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.demo.script import NO_SUCH_MAILBOX, Greylist, Script
from shared.broker.topology import GUARANTEED_EVENTS
from shared.events.codec import decode_event
from shared.events.model import MailEvent
from tests.faults.test_kill import armed, die_and_return
from tests.support.killing_service import Point
from tests.support.pipeline import ROOT
from tests.support.rig import Rig, running_rig
from tests.support.smtp_client import MAIL_TROUBLE

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMISED = ["accepted", "routed", "attempted", "delivered"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_rig(
    broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Rig]:
    settings = {"events": {"guaranteed": ["default"], "publish": "never"}}
    async with running_rig(tmp_path_factory.mktemp("rig"), broker_url, settings) as rig:
        yield rig


async def owed(rig: Rig) -> list[MailEvent]:
    """All guaranteed events, once everything is quiet."""
    await rig.wait_accounted()
    count = (await rig.broker.depths())[GUARANTEED_EVENTS]
    taken = await rig.take(GUARANTEED_EVENTS, count)
    return [decode_event(delivery.body) for delivery in taken]


def kinds(events: list[MailEvent], recipient: str) -> list[str]:
    """What the story of the one mail to a recipient has at least, each once."""
    of = {event.mail_id for event in events if recipient in event.recipients}
    once = {event.id: event.event for event in events if event.mail_id in of}
    return list(once.values())


@pytest.mark.parametrize(
    ("service", "point"),
    [
        ("router", Point.SUCCESSORS_PART),
        ("delivery", Point.SUCCESSORS_PART),
    ],
)
async def test_a_service_killed_between_loses_no_event(
    rig: Rig, service: str, point: Point
) -> None:
    recipient = rig.address()
    await armed(rig, service, point)
    await rig.insist([recipient])
    await die_and_return(rig, service)
    assert sorted(kinds(await owed(rig), recipient)) == sorted(PROMISED)


async def test_ingress_killed_before_250_may_tell_of_a_mail_twice_but_never_of_none(
    rig: Rig,
) -> None:
    recipient = rig.address()
    await armed(rig, "ingress", Point.PUBLISH_CONFIRMED)
    with pytest.raises(MAIL_TROUBLE):
        await rig.send([recipient])
    await die_and_return(rig, "ingress")
    await rig.insist([recipient])
    events = await owed(rig)
    delivered = {event.mail_id for event in events if event.event == "delivered"}
    assert delivered
    # The mail that was answered 250 is told of from its first step on.
    assert any(sorted(of_mail(events, one)) == sorted(PROMISED) for one in delivered)


def of_mail(events: list[MailEvent], mail_id: str) -> list[str]:
    return [event.event for event in events if event.mail_id == mail_id]


async def test_the_command_takes_guaranteed_events_out_of_their_queue(rig: Rig) -> None:
    recipient = rig.address()
    await rig.insist([recipient])
    await rig.wait_accounted()
    config = str(rig.pipeline.config)
    command = ("-m", "services.cli", "events", "--guaranteed", "--config", config)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    events = [decode_event(line) for line in output.splitlines()]
    assert sorted(kinds(events, recipient)) == sorted(PROMISED)
    assert (await rig.broker.depths())[GUARANTEED_EVENTS] == 0


async def test_deferred_and_bounced_recipients_are_told_of_too(rig: Rig) -> None:
    late, bad = rig.address(local_part="late"), rig.address(local_part="bad")
    greylist = Greylist(tries=1, prefix="late")
    rig.script(Script(greylist=greylist, recipients={bad: NO_SUCH_MAILBOX}))
    await rig.insist([late, bad])
    events = await owed(rig)
    story = {(event.event, event.recipients) for event in events}
    assert {("deferred", (late,)), ("delivered", (late,)), ("bounced", (bad,))} <= story
