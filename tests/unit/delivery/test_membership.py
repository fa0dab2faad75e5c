"""In simulated time, counted in heartbeats (see `tests.support.swarm`)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.delivery.actions import Why
from services.delivery.holding import Trace
from services.delivery.membership import LISTENING
from services.delivery.peers import DEAD_AFTER
from tests.support.swarm import LONGEST_DELAY, LONGEST_GIVE_UP, Swarm, Worker

SEEDS = st.integers(0, 2**32)
ONE_MESSAGE = 1 / 20 + 2 * LONGEST_DELAY
"""Heartbeats until a change is known to all, if nothing is lost."""


def settled(swarm: Swarm) -> None:
    """Each partition is with one living worker, and shares differ by at most one."""
    for partition in swarm.partitions:
        assert len(swarm.owners(partition)) == 1, partition
    for lane in {partition.lane for partition in swarm.partitions}:
        shares = [sum(p.lane == lane for p in worker.claims) for worker in swarm.living]
        assert max(shares) - min(shares) <= 1


def changes(swarm: Swarm) -> int:
    return sum(len(worker.taken) + len(worker.given_up) for worker in swarm.workers)


def swarm_of(count: int, *, lossy: bool = False, seed: int = 0, partitions: int = 8) -> Swarm:
    swarm = Swarm(random.Random(seed), {"bulk": partitions}, lossy=lossy)
    for _ in range(count):
        swarm.join()
    swarm.run(5)
    settled(swarm)
    swarm.longest_unowned = 0
    return swarm


def reasons(worker: Worker) -> set[Why]:
    return {why for _, _, why in worker.given_up}


EVENTS = st.tuples(
    st.sampled_from(["join", "join", "leave", "kill"]), st.floats(0, 4), st.integers(0, 20)
)


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=8), SEEDS)
def test_whoever_comes_leaves_or_dies_all_is_served_again_soon_and_then_stays(
    events: list[tuple[str, float, int]], seed: int
) -> None:
    swarm = Swarm(random.Random(seed), {"bulk": 8, "otp": 3})
    swarm.join()
    for kind, pause, number in events:
        swarm.run(pause)
        staying = [worker for worker in swarm.living if not worker.leaving]
        if kind == "join":
            swarm.join()
        elif len(staying) > 1:
            getattr(swarm, kind)(staying[number % len(staying)])
    swarm.run(8)

    settled(swarm)
    assert swarm.longest_unowned <= 3
    assert swarm.longest_shared <= 1 + ONE_MESSAGE + LONGEST_GIVE_UP
    before = changes(swarm)
    swarm.run(10)
    assert changes(swarm) == before


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=6), SEEDS)
def test_those_who_come_and_leave_in_order_never_share_and_move_no_more_than_they_must(
    steps: Sequence[tuple[bool, int]], seed: int
) -> None:
    swarm = swarm_of(1, seed=seed)
    for joins, number in steps:
        staying = [worker for worker in swarm.living if not worker.leaving]
        taken = sum(len(worker.taken) for worker in swarm.workers)
        if joins:
            swarm.join()
            must = 8 // (len(staying) + 1)
        elif len(staying) > 1:
            leaver = staying[number % len(staying)]
            must = len(leaver.claims)
            swarm.leave(leaver)
        else:
            continue
        swarm.run(6)
        settled(swarm)
        assert sum(len(worker.taken) for worker in swarm.workers) - taken == must

    assert swarm.longest_shared == 0
    assert swarm.longest_unowned <= ONE_MESSAGE


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.floats(0, 60), st.integers(2, 4))
def test_a_worker_that_was_stopped_serves_nothing_of_others_when_it_goes_on(
    seed: int, heartbeats: float, count: int
) -> None:
    swarm = swarm_of(count, lossy=True, seed=seed)
    stopped = swarm.workers[0]
    had = stopped.claims
    swarm.pause(stopped)
    swarm.run(heartbeats)
    taken_over = {p for worker in swarm.living for p in worker.claims if worker is not stopped}
    swarm.resume(stopped)

    if heartbeats > DEAD_AFTER:
        assert {partition for _, partition, _ in stopped.given_up} >= had
    swarm.run(0.5 + ONE_MESSAGE + LONGEST_GIVE_UP)
    assert stopped.claims & taken_over == set()
    swarm.run(6)
    settled(swarm)


def test_a_stopped_worker_is_replaced_within_three_heartbeats() -> None:
    swarm = swarm_of(3)
    swarm.pause(swarm.workers[0])
    swarm.run(3)

    assert all(len(swarm.owners(partition)) == 1 for partition in swarm.partitions)


@pytest.mark.parametrize("length", [1, 30])
def test_nobody_is_dead_and_nothing_moves_while_the_broker_lets_nothing_through(
    length: float,
) -> None:
    swarm = swarm_of(3, lossy=True)
    before = {worker.membership.worker: worker.claims for worker in swarm.workers}
    for worker in swarm.workers:
        swarm.deafen(worker, noticed=True)
    swarm.run(length)
    for worker in swarm.workers:
        swarm.cure(worker)
        swarm.run(0.3)
    swarm.run(5)

    assert {worker.membership.worker: worker.claims for worker in swarm.workers} == before
    assert not any(worker.given_up for worker in swarm.workers)


def test_who_dies_while_the_broker_lets_nothing_through_is_replaced_soon_after() -> None:
    swarm = swarm_of(3)
    for worker in swarm.workers:
        swarm.deafen(worker, noticed=True)
    swarm.run(5)
    swarm.kill(swarm.workers[1])
    swarm.run(5)
    for worker in swarm.living:
        swarm.cure(worker)
    swarm.run(3.5)

    settled(swarm)


@pytest.mark.parametrize("noticed", [True, False])
def test_a_worker_that_alone_is_cut_off_takes_nothing_and_gives_way_when_it_comes_back(
    noticed: bool,
) -> None:
    swarm = swarm_of(3)
    cut = swarm.workers[1]
    had, taken = cut.claims, len(cut.taken)
    swarm.deafen(cut, noticed=noticed)
    swarm.run(10)
    others = {p for worker in swarm.workers if worker is not cut for p in worker.claims}
    assert others == set(swarm.partitions)
    assert cut.claims == had
    assert len(cut.taken) == taken
    swarm.cure(cut)
    swarm.run(0.5 + ONE_MESSAGE + LONGEST_GIVE_UP)

    assert cut.claims & others == set()
    assert reasons(cut) == {Why.LOST}
    swarm.run(5)
    settled(swarm)
    assert all(Why.LOST not in reasons(w) for w in swarm.workers if w is not cut)


def test_a_worker_whose_own_announcements_never_come_back_takes_nothing() -> None:
    swarm = Swarm(random.Random(1), {"bulk": 8}, lossy=False)
    worker = swarm.join()
    swarm.deafen(worker, noticed=False)
    swarm.run(20)

    assert worker.taken == []


def test_a_lone_worker_serves_everything_once_it_has_listened() -> None:
    swarm = Swarm(random.Random(1), {"bulk": 8}, lossy=False)
    worker = swarm.join()
    swarm.run(LISTENING)
    assert worker.claims == frozenset()
    swarm.run(ONE_MESSAGE)

    assert worker.claims == set(swarm.partitions)
    assert all(take.fresh and not take.traces for take in worker.taken)


def test_workers_that_start_together_share_at_once_and_move_nothing() -> None:
    swarm = Swarm(random.Random(1), {"bulk": 8}, lossy=False)
    for _ in range(4):
        swarm.join()
        swarm.run(0.2)
    swarm.run(3)

    settled(swarm)
    assert not any(worker.given_up for worker in swarm.workers)


def test_a_partition_stays_with_its_owner_until_the_newcomer_may_take_it() -> None:
    swarm = swarm_of(1)
    swarm.join()
    swarm.run(0.9)
    assert swarm.workers[0].given_up == []
    swarm.run(3)

    settled(swarm)
    assert swarm.longest_unowned <= ONE_MESSAGE


def test_nobody_waits_for_one_who_never_gets_ready() -> None:
    """It speaks and does not hear, so it is not dead, and takes nothing."""
    swarm = swarm_of(2)
    swarm.kill(swarm.workers[0])
    mute = swarm.join()
    swarm.mute.add(mute.membership.worker)
    swarm.run(5)

    assert swarm.workers[1].claims == set(swarm.partitions)


def test_lanes_are_shared_among_those_that_serve_them_only() -> None:
    swarm = Swarm(random.Random(1), {"bulk": 4, "otp": 4}, lossy=False)
    both = swarm.join()
    bulk = swarm.join({"bulk": 4})
    swarm.run(4)

    assert {partition.lane for partition in bulk.claims} == {"bulk"}
    assert len(bulk.claims) == 2
    assert len(both.claims) == 6
    assert both.membership.members("bulk") == 2
    assert both.membership.members("otp") == 1


def test_workers_with_fewer_partitions_in_mind_are_not_waited_for() -> None:
    """While a configuration is rolled out, both kinds run; no partition has two of them."""
    swarm = Swarm(random.Random(1), {"bulk": 8}, lossy=False)
    old = swarm.join({"bulk": 4})
    swarm.run(3)
    new = swarm.join()
    swarm.run(3)
    assert {partition.number for partition in old.claims} == {0, 1, 2, 3}
    assert {partition.number for partition in new.claims} == {4, 5, 6, 7}
    swarm.leave(old)
    swarm.run(2)

    settled(swarm)


def test_a_partition_of_one_who_fell_silent_is_not_fresh_for_a_minute() -> None:
    swarm = swarm_of(2)
    lost = swarm.workers[0].claims
    swarm.kill(swarm.workers[0])
    swarm.run(4)
    survivor = swarm.workers[1]

    assert {take.partition for take in survivor.taken if not take.fresh} == lost
    swarm.run(70)
    newcomer = swarm.join()
    swarm.run(3)
    assert newcomer.taken
    assert all(take.fresh for take in newcomer.taken)


def test_who_comes_later_learns_from_the_others_what_was_lost() -> None:
    swarm = swarm_of(2)
    lost = swarm.workers[0].claims
    swarm.kill(swarm.workers[0])
    swarm.run(4)
    newcomers = [swarm.join(), swarm.join()]
    swarm.run(4)

    taken = [take for worker in newcomers for take in worker.taken]
    assert {take.partition for take in taken if not take.fresh} == lost & {
        t.partition for t in taken
    }
    assert any(take.fresh for take in taken) or lost >= {t.partition for t in taken}


def test_who_takes_over_in_order_is_told_what_is_still_open_and_then_how_it_goes_on() -> None:
    swarm = swarm_of(1)
    first = swarm.workers[0]
    first.traces = tuple(
        Trace("bulk", number, "a.test", connections=2, opened=(3, 1)) for number in range(8)
    )
    second = swarm.join()
    swarm.run(3)

    assert len(second.taken) == 4
    for take in second.taken:
        assert take.fresh
        number = take.partition.number
        assert take.traces == (Trace("bulk", number, "a.test", connections=2, opened=(3, 1)),)
    first.traces = (Trace("bulk", second.taken[0].partition.number, "a.test", connections=1),)
    swarm.run(1 + ONE_MESSAGE)
    assert second.heeded == first.traces
    first.traces = ()
    swarm.run(1 + ONE_MESSAGE)
    assert not second.heeded


def test_what_the_dead_had_open_counts_for_another_minute() -> None:
    swarm = swarm_of(1)
    first = swarm.workers[0]
    second = swarm.join()
    swarm.run(3)
    first.traces = (Trace("bulk", second.taken[0].partition.number, "a.test", connections=1),)
    swarm.run(1 + ONE_MESSAGE)
    swarm.kill(first)
    swarm.run(50)
    assert second.heeded == first.traces
    swarm.run(15)

    assert not second.heeded


def test_what_was_told_before_the_last_owner_died_is_not_taken_for_all_there_was() -> None:
    """The first left in order, the second then died: what it opened, nobody knows."""
    swarm = swarm_of(3)
    first, second, third = swarm.workers
    told = first.claims
    first.traces = tuple(
        Trace("bulk", number, "a.test", connections=1, opened=(3,)) for _, number in told
    )
    swarm.leave(first)
    swarm.run(3)
    passed_on, lost = second.claims & told, second.claims
    swarm.kill(second)
    swarm.run(3)

    takes = {take.partition: take for take in third.taken if take.partition in lost}
    assert passed_on
    assert takes.keys() == lost
    assert not any(take.fresh or take.traces for take in takes.values())
    assert {(trace.lane, trace.number) for trace in third.heeded} >= passed_on


def test_what_several_have_open_at_one_site_is_told_as_one() -> None:
    swarm = swarm_of(2)
    for worker in swarm.workers:
        worker.traces = tuple(
            Trace("bulk", number, "a.test", connections=1, opened=(1, 2)) for number in range(8)
        )
    third = swarm.join()
    swarm.run(3)

    for take in third.taken:
        number = take.partition.number
        assert take.traces == (Trace("bulk", number, "a.test", connections=2, opened=(2, 4)),)


def test_one_who_left_in_order_leaves_nothing_behind_that_is_not_fresh() -> None:
    swarm = swarm_of(2)
    swarm.leave(swarm.workers[0])
    swarm.run(5)

    assert all(take.fresh for take in swarm.workers[1].taken)
    assert swarm.died == []


def test_workers_say_little_when_nothing_happens() -> None:
    swarm = swarm_of(5)
    before = sum(worker.announced for worker in swarm.workers)
    swarm.run(20)

    said = sum(worker.announced for worker in swarm.workers) - before
    assert said <= 5 * 20


def test_many_who_start_at_once_do_not_talk_without_end() -> None:
    swarm = Swarm(random.Random(1), {"bulk": 8}, lossy=False)
    for _ in range(20):
        swarm.join()
    swarm.run(4)

    assert all(worker.announced <= 30 for worker in swarm.workers)


def test_a_longer_heartbeat_of_another_is_waited_for() -> None:
    """While a changed setting is rolled out."""
    swarm = Swarm(random.Random(1), {"bulk": 8}, lossy=False)
    swarm.join(heartbeat=4.0)
    swarm.run(8)
    swarm.join()
    swarm.run(40)

    settled(swarm)
    assert swarm.died == []
    assert swarm.longest_shared == 0
