"""The shell on the in-memory broker: several workers in one loop, heartbeats of a few milliseconds.

That decisions are right is shown in simulated time; here, that they are carried out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY

from services.delivery.heartbeats import Heartbeat, decode
from services.delivery.holding import Partition, Trace
from services.delivery.ownership import Ownership
from shared.broker.topology import build_topology
from tests.support.memory_broker import MemoryBroker

LANES = {"unit": 4}
ALL = {Partition("unit", number) for number in range(4)}
HEARTBEAT = 0.1


class Book(asyncio.Condition):
    """What all holders serve; whoever waits for it is told of each change."""

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self:
            await self.wait_for(holds)

    def tell(self) -> None:
        async def tell() -> None:
            async with self:
                self.notify_all()

        self._telling = asyncio.ensure_future(tell())


class RecordingHolder:
    """Serves nothing, and says what it was told to do."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self.served: set[Partition] = set()
        self.fresh: dict[Partition, bool] = {}
        self.traces: list[Trace] = []
        self.heeded: Sequence[Trace] = ()
        self.left: Sequence[Trace] = ()
        self.open: Sequence[Trace] = ()
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    def take(self, partition: Partition, *, fresh: bool, traces: Sequence[Trace] = ()) -> None:
        self.served.add(partition)
        self.fresh[partition] = fresh
        self.traces += traces
        self._book.tell()

    async def give_up(self, partition: Partition) -> Sequence[Trace]:
        if self.fails:
            raise RuntimeError("cannot")
        await self.gate.wait()
        self.served.discard(partition)
        self._book.tell()
        return [trace for trace in self.left if (trace.lane, trace.number) == partition]

    def remains(self) -> Sequence[Trace]:
        return self.open

    def heed(self, remains: Sequence[Trace]) -> None:
        self.heeded = remains
        self._book.tell()


class Hub:
    def __init__(self) -> None:
        self.broker = MemoryBroker(build_topology([1000], LANES))
        self.book = Book()
        self.started: list[Ownership] = []
        self.said: list[Heartbeat] = []
        self.broker.listen(self._overhear)

    def _overhear(self, body: bytes) -> None:
        word = decode(body)
        assert word is not None
        self.said.append(word)
        self.book.tell()

    def last(self, name: str) -> Heartbeat:
        """The last word of this one."""
        return next(word for word in reversed(self.said) if word.worker == name)

    def heard(self, name: str) -> int:
        """How often this one has spoken since it is no longer joining."""
        return sum(word.worker == name and not word.joining for word in self.said)

    async def worker(self, name: str) -> tuple[Ownership, RecordingHolder]:
        holder = RecordingHolder(self.book)
        broker = self.broker.beside()
        await broker.start()
        ownership = Ownership(name, LANES, HEARTBEAT, broker, holder)
        ownership.start()
        self.started.append(ownership)
        return ownership, holder


@asynccontextmanager
async def hub() -> AsyncIterator[Hub]:
    one = Hub()
    await one.broker.start()
    yield one
    for ownership in one.started:
        await ownership.stop()


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_two_workers_share_and_the_one_that_stays_takes_what_the_other_gives_up() -> None:
    async with hub() as h:
        _, first = await h.worker("first")
        await h.book.until(lambda: first.served == ALL)
        second_ownership, second = await h.worker("second")
        await h.book.until(lambda: len(second.served) == 2)
        assert first.served | second.served == ALL
        assert not first.served & second.served

        await second_ownership.drain()
        assert second.served == set()
        await second_ownership.stop()
        await h.book.until(lambda: first.served == ALL)
        assert all(first.fresh.values())


async def test_nobody_takes_a_partition_before_it_is_given_up() -> None:
    async with hub() as h:
        _, first = await h.worker("first")
        await h.book.until(lambda: first.served == ALL)
        first.gate.clear()
        _, second = await h.worker("second")
        await h.book.until(lambda: h.heard("second") == 3)
        assert second.served == set()
        first.gate.set()
        await h.book.until(lambda: len(second.served) == 2)


async def test_the_next_owner_is_told_what_was_opened_and_what_is_still_open() -> None:
    async with hub() as h:
        _, first = await h.worker("first")
        await h.book.until(lambda: first.served == ALL)
        first.left = [Trace("unit", number, "a.test", 0, (7,)) for number in range(4)]
        first.open = [Trace("unit", number, "b.test", 2) for number in range(4)]
        _, second = await h.worker("second")
        await h.book.until(lambda: len(second.served) == 2)

        expected = {
            trace
            for number in {partition.number for partition in second.served}
            for trace in (
                Trace("unit", number, "a.test", 0, (7,)),
                Trace("unit", number, "b.test", 2),
            )
        }
        assert set(second.traces) == expected
        moved = {partition.number for partition in second.served}
        await h.book.until(lambda: {trace.number for trace in second.heeded} == moved)
        first.open = []
        await h.book.until(lambda: not second.heeded)


async def test_what_was_opened_is_told_until_the_next_owner_has_it() -> None:
    async with hub() as h:
        _, first = await h.worker("first")
        await h.book.until(lambda: first.served == ALL)
        first.left = [Trace("unit", number, "a.test", 0, (7,)) for number in range(4)]
        _, second = await h.worker("second")
        await h.book.until(lambda: len(second.served) == 2)
        await h.book.until(lambda: h.last("second").partitions == sorted(second.served))
        h.said.clear()
        await h.book.until(lambda: h.heard("first") == 2)
        assert h.last("first").remains == ()


async def test_a_partition_whose_giving_up_fails_is_not_stranded() -> None:
    async with hub() as h:
        _, first = await h.worker("first")
        await h.book.until(lambda: first.served == ALL)
        first.fails = True
        _, second = await h.worker("second")

        await h.book.until(lambda: len(second.served) == 2)


async def test_what_is_served_can_be_seen_in_the_metrics() -> None:
    taken = sample("postroad_ownership_changes_total", change="taken")
    leaving = sample("postroad_ownership_changes_total", change="leaving")
    ignored = sample("postroad_ignored_heartbeats_total")
    async with hub() as h:
        ownership, holder = await h.worker("first")
        assert sample("postroad_partition_owned", lane="unit", partition="0") == 0
        h.broker.announce(b"\xc1")
        await h.book.until(lambda: holder.served == ALL)
        assert sample("postroad_partition_owned", lane="unit", partition="0") == 1
        assert sample("postroad_owned_partitions", lane="unit") == 4
        assert sample("postroad_members", lane="unit") == 1
        assert sample("postroad_ownership_changes_total", change="taken") == taken + 4
        assert sample("postroad_ignored_heartbeats_total") == ignored + 1

        await ownership.drain()
        assert sample("postroad_partition_owned", lane="unit", partition="3") == 0
        assert sample("postroad_owned_partitions", lane="unit") == 0
        assert sample("postroad_ownership_changes_total", change="leaving") == leaving + 4
