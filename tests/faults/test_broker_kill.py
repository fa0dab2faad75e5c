"""kill -9 of the process that is served a single active queue: the standby takes over."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from shared.broker.interface import Broker
from tests.conformance.harness import PATIENCE, lane, publish, stand_by, until_depths
from tests.faults.broker_child import make_broker

LANE = lane(0)
HELD = 3


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Broker]:
    broker = make_broker(url)
    await broker.start()
    try:
        await broker.wait_usable(PATIENCE)
        yield broker
    finally:
        await broker.close()


@contextlib.asynccontextmanager
async def served(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that holds what it gets from the lane."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.broker_child", url, f"{HELD}"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def lines(process: asyncio.subprocess.Process, count: int) -> list[str]:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        return [(await process.stdout.readline()).decode().strip() for _ in range(count)]


@pytest.fixture
def url(broker_url: str) -> str:
    return broker_url


async def test_the_standby_gets_what_a_killed_process_held_in_order_and_counted(url: str) -> None:
    names = [f"{number}" for number in range(9)]
    async with opened(url) as broker, served(url) as process:
        await publish(broker, *names, queue=LANE)
        assert await lines(process, HELD) == names[:HELD]
        standby = await stand_by(broker, LANE)
        await until_depths(broker, **{LANE.replace(".", "_"): len(names) - HELD})
        assert standby.arrived.empty()
        process.kill()
        seen = await standby.take(len(names))
        assert [delivery.message_id for delivery in seen] == names
        assert [delivery.attempts for delivery in seen] == [1] * HELD + [0] * (len(names) - HELD)


async def test_a_process_that_is_only_stopped_stays_the_one_that_is_served(url: str) -> None:
    async with opened(url) as broker, served(url) as process:
        await publish(broker, "a", queue=LANE)
        assert await lines(process, 1) == ["a"]
        process.send_signal(signal.SIGSTOP)
        standby = await stand_by(broker, LANE)
        await publish(broker, "b", queue=LANE)
        async with opened(url) as another:  # looks for dead owners when it opens
            await publish(another, "c", queue=LANE)
        assert standby.arrived.empty()
        process.kill()
        seen = await standby.take(3)
        assert {delivery.message_id for delivery in seen} == {"a", "b", "c"}
