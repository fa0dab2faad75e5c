"""Several delivery workers share a lane while they come, leave, die and stop, on both brokers.

Under load, with a receiver that counts. Nothing is lost, whatever happens to the workers.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
import pytest_asyncio

from services.demo.home import Connection
from services.demo.receiver import Receiver
from services.demo.script import Script, Stage
from tests.support.owned import Watch
from tests.support.pipeline import eventually
from tests.support.rig import Rig, running_rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEARTBEAT = 1.0
"""Seconds. Three of these have to be long for a loaded machine to keep its time in."""
PARTITIONS = 6
DOMAINS = [f"d{number}.test" for number in range(12)]


CONNECTIONS = 2
"""At most, to each site."""
SLOW = Script(delays={Stage.DOT: 0.2})
WAITING = 150
"""Mails that wait for a receiver: so many that each site is always sent what its limit allows."""


class WatchfulReceiver(Receiver):
    """Knows how many connections were open at a time at most."""

    most_open = 0

    def opened(self, session: Connection) -> tuple[int, bytearray]:
        known = super().opened(session)
        self.most_open = max(self.most_open, self.open_connections)
        return known


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_rig(
    broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Rig]:
    """Many domains, each a site of its own, so that each partition has some."""
    settings = {
        "delivery": {"heartbeat": f"{HEARTBEAT:.0f}s"},
        "lanes": [{"name": "default", "partitions": PARTITIONS}],
        "limits": {"default": {"connections": CONNECTIONS}},
    }
    folder = tmp_path_factory.mktemp("rig")
    async with running_rig(folder, broker_url, settings, DOMAINS, WatchfulReceiver) as rig:
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def rig(module_rig: Rig) -> Rig:
    """The module's rig with one worker, called `delivery`, and receivers that take their time."""
    await module_rig.renew()
    for name in module_rig.pipeline.workers:
        if name != "delivery":
            module_rig.pipeline.terminate(name)
            await module_rig.pipeline.wait_drained(name)
    for domain in DOMAINS:
        receiver = module_rig.receivers[domain]
        assert isinstance(receiver, WatchfulReceiver)
        receiver.script, receiver.most_open = SLOW, 0
    return module_rig


def most_open(rig: Rig) -> int:
    """The most connections that were open at one receiver at a time."""
    return max(cast("WatchfulReceiver", rig.receivers[domain]).most_open for domain in DOMAINS)


class Load:
    """Sends mail to all domains in turn until it is told to stop."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._stopped = asyncio.Event()
        self._next = itertools.cycle(DOMAINS)

    async def run(self) -> None:
        """As fast as it is accepted, while not too many wait."""
        while not self._stopped.is_set():
            await self._rig.insist([self._rig.address(next(self._next))])
            while not self._stopped.is_set() and len(self._rig.account().lost) > WAITING:
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        """Send no more."""
        self._stopped.set()

    async def more(self, count: int = 100) -> None:
        """Return when so many more were delivered."""
        before = len(self._rig.received())

        async def enough() -> bool:
            return len(self._rig.received()) >= before + count

        await eventually(enough, f"{count} more delivered", 60)


@asynccontextmanager
async def under_load(rig: Rig) -> AsyncIterator[tuple[Watch, Load]]:
    """A watch and load, from when one worker serves everything."""
    watch, load = Watch(rig.pipeline, PARTITIONS), Load(rig)
    async with watch, asyncio.TaskGroup() as tasks:
        await watch.settled(1)
        for _ in range(4):
            tasks.create_task(load.run())
        await load.more()
        watch.begin()
        try:
            yield watch, load
        finally:
            load.stop()


async def test_one_two_three_two_one_workers_serve_everything_within_the_limits(rig: Rig) -> None:
    pipeline = rig.pipeline
    async with under_load(rig) as (watch, load):
        for count, name in ((2, "delivery-2"), (3, "delivery-3")):
            await pipeline.start([name])
            await watch.settled(count)
            await load.more()
        for count, name in ((2, "delivery"), (1, "delivery-3")):
            pipeline.terminate(name)
            await pipeline.wait_drained(name)
            await watch.settled(count)
            await load.more()

    assert watch.longest_unowned <= 3 * HEARTBEAT
    assert watch.longest_shared <= HEARTBEAT
    account = await rig.wait_accounted()
    assert account.lost == account.unexpected == set()
    assert account.duplicates() == {}
    assert most_open(rig) == CONNECTIONS


async def test_an_owner_that_is_killed_is_replaced_within_three_heartbeats(rig: Rig) -> None:
    pipeline = rig.pipeline
    async with under_load(rig) as (watch, load):
        await pipeline.start(["delivery-2"])
        await watch.settled(2)
        await load.more()
        await pipeline.kill9("delivery-2")
        await watch.settled(1)
        await load.more()

    assert watch.longest_unowned <= 3 * HEARTBEAT
    account = await rig.wait_accounted()
    assert account.lost == account.unexpected == set()
    assert account.most_copies() <= 2
    assert most_open(rig) == CONNECTIONS


async def test_an_owner_that_is_stopped_is_replaced_and_gives_way_when_it_goes_on(
    rig: Rig,
) -> None:
    pipeline = rig.pipeline
    async with under_load(rig) as (watch, load):
        await pipeline.start(["delivery-2"])
        await watch.settled(2)
        watch.stopped.add("delivery-2")
        pipeline.pause("delivery-2")
        await watch.settled(1)
        pipeline.resume("delivery-2")
        watch.stopped.clear()
        await watch.settled(2)
        await load.more()

    assert watch.longest_unowned <= 3 * HEARTBEAT
    assert watch.longest_shared <= HEARTBEAT
    lost = (await pipeline.metrics("delivery-2"))['postroad_ownership_changes_total{change="lost"}']
    assert lost >= PARTITIONS // 2
    account = await rig.wait_accounted()
    assert account.lost == account.unexpected == set()
    assert account.most_copies() <= 2
    assert most_open(rig) <= 2 * CONNECTIONS
