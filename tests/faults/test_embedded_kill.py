"""kill -9 of processes that share an embedded store: what was confirmed is there, once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from shared.broker.embedded.broker import EmbeddedBroker
from shared.broker.interface import ParkReason
from shared.broker.parking import QUEUE, REASON
from shared.broker.topology import PARKED
from tests.conformance.harness import (
    LIMIT,
    OTHER,
    PATIENCE,
    WORK,
    Inbox,
    publish,
    small_topology,
    until_depths,
)
from tests.faults.embedded_child import IN_FLIGHT

ROUNDS = 2


class Child:
    """A process in one of the roles of `embedded_child`, and every line it reported."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def report(self, count: int) -> None:
        """Return when the child has reported that many lines in all."""
        async with asyncio.timeout(PATIENCE):
            while len(self.lines) < count:
                await self._line()

    async def _line(self) -> bool:
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        if line.endswith("\n"):
            self.lines.append(line.strip())
        return bool(line)

    def stop(self) -> None:
        """Stop it like a debugger or a frozen host does."""
        self._process.send_signal(signal.SIGSTOP)

    async def kill(self) -> None:
        """kill -9, and read what it had reported by then."""
        if self._process.returncode is None:
            self._process.kill()
        async with asyncio.timeout(PATIENCE):
            while await self._line():
                pass
            await self._process.wait()


@contextlib.asynccontextmanager
async def child(role: str, directory: Path, name: str = "") -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.embedded_child", role, str(directory), name),
        stdout=asyncio.subprocess.PIPE,
    )
    started = Child(process)
    try:
        yield started
    finally:
        await started.kill()


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(str(directory), small_topology())
    await broker.start()
    try:
        yield broker
    finally:
        await broker.close()


async def drain(broker: EmbeddedBroker, queues: Sequence[str]) -> list[str]:
    """The ids of all messages in `queues`."""
    found = []
    for queue in queues:
        inbox = Inbox(acknowledge=True)
        count = (await broker.depths())[queue]
        broker.consume(queue, 100, inbox)
        found += [delivery.message_id for delivery in await inbox.take(count)]
    return found


async def kill_after(one: Child, reports: int) -> None:
    await one.report(reports)
    await one.kill()


async def one_round(directory: Path, name: str, seed: random.Random) -> tuple[Child, Child]:
    """Three processes at once, each killed in the middle of its work."""
    moved = seed.randrange(50, 400)
    async with (
        child("publish", directory, name) as publisher,
        child("forward", directory) as forwarder,
        child("acknowledge", directory) as consumer,
    ):
        # Each gets to its point even when the one before it is dead already.
        await asyncio.gather(
            kill_after(publisher, moved + seed.randrange(200)),
            kill_after(forwarder, moved),
            kill_after(consumer, seed.randrange(1, moved)),
        )
    return publisher, consumer


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_whatever_is_killed_confirmed_messages_are_kept_exactly_once(
    tmp_path: Path, number: int
) -> None:
    seed = random.Random(number)
    confirmed: set[str] = set()
    handled: Counter[str] = Counter()
    for turn in range(ROUNDS):
        publisher, consumer = await one_round(tmp_path, f"round{turn}", seed)
        confirmed.update(publisher.lines)
        handled.update(consumer.lines)
    async with opened(tmp_path) as broker:
        kept = Counter(await drain(broker, [WORK, OTHER, PARKED]))
    assert not confirmed - kept.keys() - handled.keys(), "lost"
    assert [name for name, count in kept.items() if count > 1] == [], "kept twice"
    # Only what a consumer held unsettled when it died may be seen again.
    assert len(handled.keys() & kept.keys()) <= IN_FLIGHT
    assert handled.total() - len(handled) <= IN_FLIGHT * (ROUNDS - 1)
    unconfirmed = (kept.keys() | handled.keys()) - confirmed
    assert len(unconfirmed) <= IN_FLIGHT * ROUNDS


async def test_a_dead_owners_messages_come_back_counted(tmp_path: Path) -> None:
    names = [f"{number}" for number in range(10)]
    inbox = Inbox()
    async with opened(tmp_path) as broker, child("hold", tmp_path) as holder:
        await publish(broker, *names)
        await holder.report(10)
        broker.consume(WORK, 20, inbox)
        await holder.kill()
        deliveries = await inbox.take(10)
    assert {delivery.message_id: delivery.attempts for delivery in deliveries} == dict.fromkeys(
        names, 1
    )
    assert len(list((tmp_path / "owners").iterdir())) == 0


async def test_an_owner_that_is_only_stopped_keeps_its_messages(tmp_path: Path) -> None:
    async with opened(tmp_path) as broker, child("hold", tmp_path) as holder:
        await publish(broker, "a")
        await holder.report(1)
        holder.stop()
        async with opened(tmp_path) as another:  # looks for dead owners when it opens
            await until_depths(another, work=0)
            await holder.kill()
            await until_depths(another, work=1)


async def test_a_message_that_kills_its_consumers_is_parked(tmp_path: Path) -> None:
    inbox = Inbox()
    async with opened(tmp_path) as broker:
        await publish(broker, "poison")
        for _ in range(LIMIT + 1):
            async with child("hold", tmp_path) as victim:
                await victim.report(1)
        broker.consume(PARKED, 1, inbox)
        parked = await inbox.next()
    assert parked.message_id == "poison"
    assert parked.headers[REASON] == ParkReason.DELIVERY_LIMIT.value
    assert parked.headers[QUEUE] == WORK


async def test_two_consuming_processes_share_one_store_without_overlap(tmp_path: Path) -> None:
    names = [f"{number}" for number in range(500)]
    async with (
        opened(tmp_path) as broker,
        child("acknowledge", tmp_path) as left,
        child("acknowledge", tmp_path) as right,
    ):
        await publish(broker, *names, queue=OTHER)
        await until_depths(broker, other=0)
    seen = left.lines + right.lines
    assert sorted(seen) == sorted(names)
