"""In simulated time, counted in heartbeats (see `tests.support.swarm`)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.delivery.actions import Why
from services.delivery.holding import Partition, Trace
from tests.support.swarm import Swarm, Worker

SEEDS = st.integers(0, 2**32)


def settled(swarm: Swarm) -> None:
    """Each partition is with one living worker, and shares differ by at most one."""
    for partition in swarm.partitions:
        assert len(swarm.owners(partition)) == 1, partition
    for lane in {partition.lane for partition in swarm.partitions}:
        shares = [sum(p.lane == lane for p in worker.claims) for worker in swarm.living]
        assert max(shares) - min(shares) <= 1


def changes(swarm: Swarm) -> int:
    return sum(len(worker.taken) + len(worker.given_up) for worker in swarm.workers)


def swarm_of(count: int, seed: int = 0, *, lossy: bool = False, partitions: int = 8) -> Swarm:
    swarm = Swarm(random.Random(seed), {"bulk": partitions}, lossy=lossy)
    for _ in range(count):
        swarm.join()
    swarm.run(4)
    settled(swarm)
    return swarm


EVENTS = st.tuples(
    st.sampled_from(["join", "join", "leave", "kill"]), st.floats(0, 4), st.integers(0, 20)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=8), SEEDS)
def test_whoever_comes_leaves_or_dies_all_is_served_again_soon_and_then_stays(
    events: list[tuple[str, float, int]], seed: int
) -> None:
    swarm = Swarm(random.Random(seed), {"bulk": 8, "otp": 3})
    swarm.join()
    for kind, pause, number in events:
        swarm.run(pause)
        staying = [worker for worker in swarm.living if not worker.membership.leaving]
        if kind == "join":
            swarm.join()
        elif len(staying) > 1:
            getattr(swarm, kind)(staying[number % len(staying)])
    swarm.run(8)

    settled(swarm)
    assert swarm.longest_unowned <= 3
    assert swarm.longest_shared <= 1.2
    before = changes(swarm)
    swarm.run(10)
    assert changes(swarm) == before
