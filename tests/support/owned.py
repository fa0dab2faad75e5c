"""Who serves which partition, as the metrics of running workers tell it, sampled all the time.

    async with Watch(pipeline) as watch:
        ...
        await watch.settled()
    assert watch.longest_unowned <= 3 * HEARTBEAT

A sample takes some milliseconds for each worker, and counts as if all had answered at once: so a
partition that moves between two answers may look owned by none or by two for one sample. That is
why spans are counted from the first to the last sample that show them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import defaultdict
from types import TracebackType
from typing import Self

from services.delivery.holding import Partition
from tests.support.pipeline import Metrics, Pipeline, eventually

PAUSE = 0.03
"""Seconds between samples."""

_OWNED = re.compile(r'postroad_partition_owned\{lane="(\w+)",partition="(\d+)"\}')


def owned(metrics: Metrics) -> frozenset[Partition]:
    """What a worker with these metrics serves."""
    found = ((_OWNED.fullmatch(key), value) for key, value in metrics.items())
    return frozenset(Partition(m[1], int(m[2])) for m, value in found if m and value)


class Watch:
    """Samples all delivery workers that run and answer; `lane` has so many `partitions`."""

    def __init__(self, pipeline: Pipeline, partitions: int, lane: str = "default") -> None:
        self.owners: dict[str, frozenset[Partition]] = {}
        """The last sample, by worker."""
        self.samples = 0
        self.longest_unowned = 0.0
        self.longest_shared = 0.0
        self.stopped: set[str] = set()
        """Workers that are paused: they do not answer, and serve nothing."""
        self._pipeline = pipeline
        self._partitions = [Partition(lane, number) for number in range(partitions)]
        self._since: dict[tuple[str, Partition], float] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def settled(self, workers: int, timeout: float = 30.0) -> None:
        """Return once so many workers serve everything, each about as much as any other.

        From then on spans are counted, if they were not before.
        """

        async def done() -> bool:
            shares = [len(partitions) for partitions in self.owners.values() if partitions]
            served = [partition for owned in self.owners.values() for partition in owned]
            return (
                len(shares) == min(workers, len(self._partitions))
                and sorted(served) == self._partitions
                and max(shares) - min(shares) <= 1
            )

        await eventually(done, f"{workers} workers share everything", timeout)

    def begin(self) -> None:
        """Count spans from now on."""
        self._since.clear()
        self.longest_unowned = self.longest_shared = 0.0
        self.samples = 0

    async def _run(self) -> None:
        while True:
            names = [name for name in self._pipeline.workers if name not in self.stopped]
            answers = await asyncio.gather(*map(self._ask, names))
            self.owners = dict(zip(names, answers, strict=True))
            self._count()
            await asyncio.sleep(PAUSE)

    async def _ask(self, name: str) -> frozenset[Partition]:
        try:
            return owned(await self._pipeline.metrics(name))
        except (OSError, TimeoutError):
            return frozenset()  # it starts or ends just now

    def _count(self) -> None:
        now = asyncio.get_running_loop().time()
        self.samples += 1
        count: defaultdict[Partition, int] = defaultdict(int)
        for partitions in self.owners.values():
            for partition in partitions:
                count[partition] += 1
        for partition in self._partitions:
            unowned = self._span("unowned", partition, count[partition] == 0, now)
            shared = self._span("shared", partition, count[partition] > 1, now)
            self.longest_unowned = max(self.longest_unowned, unowned)
            self.longest_shared = max(self.longest_shared, shared)

    def _span(self, kind: str, partition: Partition, holds: bool, now: float) -> float:
        if not holds:
            self._since.pop((kind, partition), None)
            return 0.0
        return now - self._since.setdefault((kind, partition), now)
