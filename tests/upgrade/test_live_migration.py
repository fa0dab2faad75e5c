"""Three services with mail under way, while all their queues are exchanged by the command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.demo.script import Greylist, Script
from shared.broker.amqp.connection import LinkOptions, connect
from shared.broker.amqp.migrating import look
from shared.broker.connect import topology_of
from shared.broker.topology import ACCEPTED, CROWD, DUE, LANE_PREFIX
from shared.settings.load import load_settings
from tests.support.pipeline import ROOT
from tests.support.rig import DOMAINS, Rig, running_rig
from tests.upgrade.queues import declare_otherwise

pytestmark = pytest.mark.rabbitmq

MAILS_AFTER = 20
LANES: dict[str, Any] = {"lanes": [{"name": "default", "partitions": 2}]}


async def postroad_queues(rig: Rig, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "queues", *arguments),
        *("--config", str(rig.pipeline.config)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert err == b""
    return process.returncode or 0, out.decode()


def declare_as_before(url: str, folder: Path) -> None:
    """As if a former release had other limits, and no single active consumers."""
    config = folder / "former.yaml"
    config.write_text("lanes: [{name: default, partitions: 2}]\ndelivery: {retry_schedule: [1s]}")
    connection = connect(LinkOptions(url, "former", 60))
    for queue in topology_of(load_settings(config)).queues:
        if queue.name in {ACCEPTED, DUE, CROWD}:
            declare_otherwise(connection, queue, x_delivery_limit=7)
        elif queue.name.startswith(LANE_PREFIX):
            declare_otherwise(connection, queue, x_single_active_consumer=None)
    connection.collect()


async def test_queues_are_exchanged_under_load_and_every_recipient_is_accounted_for(
    url: str, tmp_path: Path
) -> None:
    declare_as_before(url, tmp_path)
    async with running_rig(tmp_path / "rig", url, LANES) as rig:
        rig.script(Script(greylist=Greylist(tries=1)))
        code, out = await postroad_queues(rig)
        assert code == 1
        assert f"{ACCEPTED}: x-delivery-limit is 7, wanted is 20 (used as it is)\n" in out

        over = asyncio.Event()
        load = asyncio.create_task(rig.load(mails_until(over, rig), sessions=1))
        await rig.receivers["one.test"].wait_for(lambda: len(rig.received()) > 30, timeout=30)
        accepted_before = len(rig.ledger.accepted)
        code, out = await postroad_queues(rig, "--migrate")
        accepted_meanwhile = len(rig.ledger.accepted) - accepted_before
        over.set()
        await load
        account = await rig.wait_accounted()

        assert (code, out.splitlines()[-1]) == (
            0,
            "all queues are as this configuration wants them",
        )
        assert f"{ACCEPTED}: declared anew\n" in out
        assert accepted_meanwhile
        assert account.unexpected == frozenset()
        # A job that was being sent when its worker left comes again.
        assert account.most_copies() <= 2, account.duplicates()
        assert_exchanged(url, rig)


def mails_until(over: asyncio.Event, rig: Rig) -> Iterator[list[str]]:
    """Mail to all domains, until `over`, and some more."""
    while not over.is_set():
        yield [rig.address(domain) for domain in DOMAINS]
    for _ in range(MAILS_AFTER):
        yield [rig.address(domain) for domain in DOMAINS]


def assert_exchanged(url: str, rig: Rig) -> None:
    connection = connect(LinkOptions(url, "after", 60))
    assert look(connection, topology_of(load_settings(rig.pipeline.config))) == []
    connection.collect()
