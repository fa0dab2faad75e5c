"""Decisions a second of the delivery scheduler, without any connection: CPU of one core.

Thousands of sites, a fifth of them paced, some with several routes. Each message is a job that
comes, begins on a connection and ends; the clock is simulated, so every timer is met. What counts
are the events that the scheduler decides about; an order is what it tells its shell to do.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass

from services.delivery.decisions import Begin, Close, Decision, GiveBack, Open
from services.delivery.holding import Partition, Prefetch
from services.delivery.routes import Connection
from services.delivery.scheduler import Scheduler
from services.delivery.waiting import Waiting
from shared.plan.limits import Limits

SITES = 5_000
PARTITIONS = 8
CHUNK = 1000
DURATION = 0.05
"""Simulated seconds of a transaction."""
PLAIN = Limits(connections=20, messages_per_connection=100, connections_per_minute=1200)
PACED = Limits(connections=5, messages_per_second=5)


@dataclass(frozen=True, slots=True)
class Speed:
    """What a run came to."""

    events: int
    decisions: int
    begun: int
    given_back: int
    seconds: float

    @property
    def a_second(self) -> float:
        """Events a second of CPU: each is decided about, if only that the job waits."""
        return self.events / self.seconds


def scheduler_speed(messages: int = 100_000, sites: int = SITES) -> Speed:
    """Run that many messages through one scheduler."""
    chance = random.Random(7)
    scheduler = Scheduler(lambda site: PACED if site.endswith("0") else PLAIN, idle_timeout=5.0)
    partitions = [Partition("default", number) for number in range(PARTITIONS)]
    for partition in partitions:
        scheduler.take(partition, Prefetch(1000, 500), 0.0, fresh=True)
    run = _Run(scheduler)
    for _ in range(messages // CHUNK):
        run.chunk([_job(chance, partitions, sites) for _ in range(CHUNK)])
    return run.speed


def _job(chance: random.Random, partitions: list[Partition], sites: int) -> Waiting:
    # Few sites take most of the mail, as in the world.
    number = min(int(chance.expovariate(8 / sites)), sites - 1)
    partition = partitions[number % PARTITIONS]
    route = chance.randrange(3) if number % 7 == 0 else 0
    return Waiting(partition, f"site{number}", route, urgent=chance.random() < 0.3)


class _Run:
    """Jobs come at 20,000 a second; the same loop tells the scheduler how they went."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._now = 0.0
        self._ends: deque[tuple[float, Connection, type]] = deque()
        self.speed = Speed(0, 0, 0, 0, 0.0)

    def chunk(self, jobs: list[Waiting]) -> None:
        """Let these jobs come, and measure."""
        counts: Counter[type] = Counter()
        self._ended = 0
        started = time.process_time()
        for item in jobs:
            self._now += 0.00005
            self._end_transactions()
            self._scheduler.arrive(item, self._now)
            if self._scheduler.wake <= self._now:
                self._scheduler.tick(self._now)
            for decision in self._scheduler.decisions():
                self._do(decision, counts)
        seconds, before = time.process_time() - started, self.speed
        self.speed = Speed(
            before.events + len(jobs) + self._ended,
            before.decisions + counts.total(),
            before.begun + counts[Begin],
            before.given_back + counts[GiveBack],
            before.seconds + seconds,
        )

    def _do(self, decision: Decision, counts: Counter[type]) -> None:
        counts[type(decision)] += 1
        if isinstance(decision, Begin | Open):
            self._ends.append((self._now + DURATION, decision.connection, type(decision)))
        elif isinstance(decision, Close):
            self._scheduler.closed(decision.connection, self._now)

    def _end_transactions(self) -> None:
        ends = self._ends
        while ends and ends[0][0] <= self._now:
            _, connection, kind = ends.popleft()
            self._ended += 1
            if kind is Begin:
                self._scheduler.over(connection, self._now, usable=True)
            else:
                self._scheduler.opened(connection, self._now)


def main(quick: bool) -> None:
    """Print a table."""
    print("| sites | jobs | begun | given back | orders | events decided a second of CPU |")
    print("|---|---|---|---|---|---|")
    messages = 20_000 if quick else 200_000
    for sites in (100, 1_000, SITES):
        speed = scheduler_speed(messages, sites)
        print(
            f"| {sites:,} | {messages:,} | {speed.begun:,} | {speed.given_back:,} "
            f"| {speed.decisions:,} | {speed.a_second:,.0f} |"
        )


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
