"""SIGTERM under load: row 10 of the fault matrix. Exit 0, nothing lost, nothing twice."""

from __future__ import annotations

import asyncio

import pytest

from services.demo.script import Greylist, Script
from tests.support.pipeline import SERVICES, eventually
from tests.support.rig import CONTENT, DOMAINS, SENDER, Rig
from tests.support.smtp_client import SmtpClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_told_to_stop_under_load_loses_and_repeats_nothing(
    rig: Rig, name: str
) -> None:
    mails = [[rig.address(domain)] for _ in range(80) for domain in DOMAINS]
    rig.receivers["two.test"].script = Script(greylist=Greylist())
    receiver = rig.receivers["one.test"]
    before = len(receiver.messages)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rig.load(mails))
        for moment in (10, 40):
            await receiver.wait_for(before + moment, timeout=30)
            rig.pipeline.terminate(name)
            await rig.pipeline.wait_drained(name)
            await rig.pipeline.restart(name)

    account = await rig.wait_accounted()
    assert account.lost == account.unexpected == set()
    assert account.duplicates() == {}
    assert len(account.delivered) == len(mails)


async def test_ingress_told_to_stop_finishes_the_transaction_and_refuses_new_sessions(
    rig: Rig,
) -> None:
    recipient = rig.address()
    rig.ledger.tried([recipient])
    async with SmtpClient(rig.pipeline.smtp_port) as client:
        assert (await client.begin(SENDER, [recipient])).code == 354
        rig.pipeline.terminate("ingress")
        assert await rig.pipeline.wait_not_ready("ingress") == "draining"
        port = rig.pipeline.smtp_port
        # It says so a moment before it stops listening, which nobody is told.
        await eventually(lambda: _refuses_sessions(port), "new sessions are refused")
        await client.write(CONTENT + b".\r\n")
        assert (await client.reply()).code == 250
        rig.ledger.took([recipient])
    await rig.pipeline.wait_drained("ingress")

    account = await rig.wait_accounted()
    assert account.delivered == {recipient: 1}


async def _refuses_sessions(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            banner = await reader.readline()
    except ConnectionError:  # refused, or taken by the kernel only
        return True
    writer.close()
    return not banner or banner.startswith(b"421")
