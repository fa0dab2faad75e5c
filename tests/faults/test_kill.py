"""kill -9 of each service at each custody point: rows 1 to 9 of the fault matrix, both brokers.

Lost and unexpected are empty in each row; copies stay within the bound of the row. The points are
hit by a broker that kills its own process (`tests.support.killing_service`), by a receiver that
holds its reply, or, for everything between, by seeded random kills under load.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from services.demo.script import GREYLISTED, NO_SUCH_MAILBOX, Greylist, Script, Stage
from tests.support.accounting import Account
from tests.support.killing_service import Point
from tests.support.pipeline import SERVICES
from tests.support.rig import CONTENT, DOMAINS, SENDER, Rig
from tests.support.smtp_client import MAIL_TROUBLE, SmtpClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOREVER = 600.0


def assert_bound(account: Account, copies: int) -> None:
    """Nothing lost, nothing unexpected, no recipient served more often than `copies`."""
    assert account.lost == set()
    assert account.unexpected == set()
    assert account.most_copies() <= copies, account.duplicates()


async def armed(rig: Rig, name: str, at: Point, nth: int = 1) -> None:
    """Replace the service by one that dies at the point."""
    rig.pipeline.terminate(name)
    await rig.pipeline.wait_drained(name)
    await rig.pipeline.start_killing(name, at, nth)


async def die_and_return(rig: Rig, name: str) -> None:
    """Wait until the service has killed itself, then start an ordinary one."""
    await rig.pipeline.wait_killed(name)
    await rig.pipeline.restart(name)


@pytest.mark.parametrize("point", [Point.PUBLISH_BEGUN, Point.PUBLISH_CONFIRMED])
async def test_ingress_killed_around_the_confirm_never_said_250(rig: Rig, point: Point) -> None:
    recipient = rig.address()
    await armed(rig, "ingress", point)

    with pytest.raises(MAIL_TROUBLE):
        await rig.send([recipient])
    await die_and_return(rig, "ingress")
    await rig.insist([recipient])

    assert_bound(await rig.wait_accounted(), copies=2)


async def test_ingress_killed_in_the_middle_of_data_publishes_nothing(rig: Rig) -> None:
    half, whole = rig.address(), rig.address()
    rig.ledger.tried([half])
    async with SmtpClient(rig.pipeline.smtp_port) as client:
        assert (await client.begin(SENDER, [half])).code == 354
        # More than the kernel's buffers hold: when it is written, ingress has read most of it.
        await client.write(CONTENT + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 100_000)
        await rig.pipeline.kill9("ingress")
    await rig.pipeline.restart("ingress")
    await rig.insist([whole])

    account = await rig.wait_accounted()
    assert_bound(account, copies=1)
    assert account.delivered.keys() == {whole}


@pytest.mark.parametrize(
    ("point", "copies"),
    [(Point.SUCCESSORS_BEGUN, 1), (Point.SUCCESSORS_PART, 2), (Point.SUCCESSORS_CONFIRMED, 2)],
)
async def test_router_killed_while_it_publishes_jobs(rig: Rig, point: Point, copies: int) -> None:
    recipients = [rig.address(domain) for domain in DOMAINS]
    await armed(rig, "router", point)

    await rig.insist(recipients)
    await die_and_return(rig, "router")

    assert_bound(await rig.wait_accounted(), copies)


async def test_delivery_killed_before_the_final_dot_delivers_once(rig: Rig) -> None:
    recipient = rig.address()
    receiver = rig.receivers["one.test"]
    rig.script(Script(delays={Stage.DATA: FOREVER}))

    def data_commands() -> int:
        return sum(raw.count(b"DATA\r\n") for raw in receiver.raw)

    before = data_commands()
    await rig.insist([recipient])
    await receiver.wait_for(lambda: data_commands() > before, timeout=20)
    await rig.pipeline.kill9("delivery")
    rig.script(Script())
    await rig.pipeline.restart("delivery")

    assert_bound(await rig.wait_accounted(), copies=1)


async def test_delivery_killed_between_the_remote_250_and_the_ack(rig: Rig) -> None:
    recipients = [rig.address() for _ in range(3)]
    await armed(rig, "delivery", Point.SETTLING)

    await rig.insist(recipients)
    await die_and_return(rig, "delivery")

    assert_bound(await rig.wait_accounted(), copies=2)


@pytest.mark.parametrize("point", [Point.SUCCESSORS_BEGUN, Point.SUCCESSORS_CONFIRMED])
async def test_delivery_killed_while_it_publishes_a_retry(rig: Rig, point: Point) -> None:
    recipient = rig.address()
    rig.script(Script(greylist=Greylist(tries=1)))
    await armed(rig, "delivery", point)

    await rig.insist([recipient])
    await die_and_return(rig, "delivery")

    assert_bound(await rig.wait_accounted(), copies=2)


@pytest.mark.parametrize("point", [Point.SUCCESSORS_BEGUN, Point.SUCCESSORS_CONFIRMED])
async def test_delivery_killed_while_it_publishes_a_dsn(rig: Rig, point: Point) -> None:
    recipient = rig.address()
    rig.script(Script(refused=frozenset({recipient})))
    await armed(rig, "delivery", point)

    await rig.insist([recipient])
    await die_and_return(rig, "delivery")

    account = await rig.wait_accounted()
    assert_bound(account, copies=2)
    assert account.notified[recipient] >= 1


@pytest.mark.parametrize(
    "point", [Point.SUCCESSORS_BEGUN, Point.SUCCESSORS_PART, Point.SUCCESSORS_CONFIRMED]
)
async def test_delivery_killed_after_a_job_of_mixed_outcomes(rig: Rig, point: Point) -> None:
    fine, grey, refused = (rig.address() for _ in range(3))
    rig.script(Script(recipients={refused: NO_SUCH_MAILBOX, grey: GREYLISTED}))
    await armed(rig, "delivery", point)

    await rig.insist([fine, grey, refused])
    await rig.pipeline.wait_killed("delivery")
    rig.script(Script(recipients={refused: NO_SUCH_MAILBOX}))
    await rig.pipeline.restart("delivery")

    account = await rig.wait_accounted()
    assert_bound(account, copies=2)
    assert refused not in account.delivered
    assert refused in account.notified


@pytest.mark.parametrize("victim", SERVICES)
async def test_random_kills_under_load_lose_nothing(rig: Rig, victim: str) -> None:
    kills = 4
    chance = random.Random(f"postroad {victim}")
    # Every eighth mail has a recipient in each domain; some recipients are refused, some wait.
    mails = [
        [rig.address(domain) for domain in (DOMAINS if number % 8 == 0 else DOMAINS[:1])]
        for number in range(240)
    ]
    refused = frozenset({mails[0][0], mails[8][1], mails[16][2]})
    rig.script(Script(refused=refused))
    rig.receivers["two.test"].script = Script(refused=refused, greylist=Greylist())
    receiver = rig.receivers["one.test"]
    before = len(receiver.messages)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rig.load(mails))
        for moment in sorted(chance.sample(range(1, 200), kills)):
            await receiver.wait_for(before + moment, timeout=30)
            await rig.pipeline.kill9(victim)
            await rig.pipeline.restart(victim)

    account = await rig.wait_accounted()
    assert_bound(account, copies=1 + kills)
    assert account.ledger.accepted == {recipient for mail in mails for recipient in mail}
    assert refused <= account.notified.keys()
