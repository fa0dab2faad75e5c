"""Decisions a second of the delivery scheduler, without any connection: CPU of one core.

Thousands of sites, a fifth of them paced, some with several routes. Each message is a job that
comes, begins on a connection and ends; the clock is simulated, so every timer is met. What counts
are the decisions that come out; events that decide nothing come on top.
"""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import dataclass

from services.delivery.decisions import Begin, Close, GiveBack, Open, Waiting
from services.delivery.holding import Partition
from services.delivery.scheduler import Scheduler
from services.delivery.site_state import Connection
from shared.plan.limits import Limits

SITES = 5_000
PARTITIONS = 8
DURATION = 0.05
"""Simulated seconds of a transaction."""
PLAIN = Limits(connections=20, messages_per_connection=100, connections_per_minute=1200)
PACED = Limits(connections=5, messages_per_second=5)


@dataclass(frozen=True, slots=True)
class Speed:
    """What a run came to."""

    decisions: int
    begun: int
    given_back: int
    seconds: float

    @property
    def a_second(self) -> float:
        """Decisions a second of CPU."""
        return self.decisions / self.seconds


def scheduler_speed(messages: int = 100_000, sites: int = SITES) -> Speed:
    """Run that many messages through one scheduler."""
    chance = random.Random(7)
    scheduler = Scheduler(lambda site: PACED if site.endswith("0") else PLAIN, idle_timeout=5.0)
    partitions = [Partition("default", number) for number in range(PARTITIONS)]
    for partition in partitions:
        scheduler.take(partition, 1000, 0.0, fresh=True)
    jobs = [_job(chance, partitions, sites) for _ in range(messages)]
    started = time.process_time()
    counts = _run(scheduler, jobs)
    seconds = time.process_time() - started
    decisions, begun, given_back = counts
    return Speed(decisions, begun, given_back, seconds)


def _job(chance: random.Random, partitions: list[Partition], sites: int) -> Waiting:
    # Few sites take most of the mail, as in the world.
    number = min(int(chance.expovariate(8 / sites)), sites - 1)
    partition = partitions[number % PARTITIONS]
    route = chance.randrange(3) if number % 7 == 0 else 0
    return Waiting(partition, f"site{number}", route, urgent=chance.random() < 0.3)


def _run(scheduler: Scheduler, jobs: list[Waiting]) -> tuple[int, int, int]:
    """All jobs come at 20,000 a second; the same loop tells the scheduler what it decided."""
    now = 0.0
    decisions = begun = given_back = 0
    ends: deque[tuple[float, Connection, type]] = deque()
    for item in jobs:
        now += 0.00005
        while ends and ends[0][0] <= now:
            _, connection, kind = ends.popleft()
            if kind is Begin:
                scheduler.over(connection, now, usable=True)
            else:
                scheduler.opened(connection, now)
        scheduler.arrive(item, now)
        if scheduler.wake <= now:
            scheduler.tick(now)
        for decision in scheduler.decisions():
            decisions += 1
            kind = type(decision)
            if kind is Begin or kind is Open:
                begun += kind is Begin
                ends.append((now + DURATION, decision.connection, kind))
            elif kind is Close:
                scheduler.closed(decision.connection, now)
            elif kind is GiveBack:
                given_back += 1
    return decisions, begun, given_back


if __name__ == "__main__":
    speed = scheduler_speed()
    print(
        f"{speed.a_second:,.0f} decisions a second: {speed.begun} begun, "
        f"{speed.given_back} given back, {speed.seconds:.2f} s"
    )
