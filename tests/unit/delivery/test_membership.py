"""In simulated time, counted in heartbeats (see `tests.support.swarm`)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.delivery.actions import Action, Announce, Died, GiveUp, Take, Why
from services.delivery.heartbeats import Heartbeat
from services.delivery.membership import LISTENING, Membership
from services.delivery.peers import DEAD_AFTER
from tests.support.swarm import LONGEST_GIVE_UP, ONE_MESSAGE, Swarm, Worker, settled, swarm_of

SEEDS = st.integers(0, 2**32)


def changes(swarm: Swarm) -> int:
    return sum(len(worker.taken) + len(worker.given_up) for worker in swarm.workers)


def reasons(worker: Worker) -> set[Why]:
    return {why for _, _, why in worker.given_up}


EVENTS = st.tuples(
    st.sampled_from(["join", "join", "leave", "kill"]), st.floats(0, 4), st.integers(0, 20)
)


LOST_CLAIM = [
    ("leave", 1.0, 0),
    ("join", 4.0, 0),
    ("join", 0.53125, 0),
    ("join", 0.5315978978000296, 0),
    ("join", 0.53125, 0),
    ("kill", 0.5, 1),
]
"""With the seed beside it: the one word that tells of a claim is lost, and two claim the same."""

SLOW_JOINER = [
    ("join", 2.625, 0),
    ("join", 2.625, 0),
    ("join", 2.0, 0),
    ("join", 2.591796875, 0),
    ("join", 2.59375, 0),
    ("leave", 0.0, 3),
]
"""With seed 2: what one leaves is for one that has just come, and misses half of what is said."""


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=8), SEEDS, st.booleans())
@example(LOST_CLAIM, 354390021, True)
@example(SLOW_JOINER, 2, True)
def test_whoever_comes_leaves_or_dies_all_is_served_again_soon_and_then_stays(
    events: list[tuple[str, float, int]], seed: int, lossy: bool
) -> None:
    swarm = Swarm(random.Random(seed), {"bulk": 8, "otp": 3}, lossy=lossy)
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
    assert swarm.longest_unowned <= (3.25 if lossy else 3)
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


def lone_server() -> tuple[Membership, float]:
    """One that serves its four partitions, and the time."""
    one = Membership("one", {"bulk": 4}, heartbeat=1.0, now=0.0)
    now, serving = 0.0, False
    while not serving:
        now = one.wake_at
        for action in one.wake(now, hearing=True):
            if isinstance(action, Announce):
                one.hear(action.heartbeat, now)
        serving = len(one.claims) == 4
    return one, now


def given_up(actions: Sequence[Action]) -> int:
    return sum(isinstance(action, GiveUp) for action in actions)


def joining(one: Membership, now: float) -> bool:
    """What it says next."""
    said = [a for a in one.wake(now, hearing=True) if isinstance(a, Announce)]
    return said[0].heartbeat.joining


def test_who_was_silent_for_long_gives_all_up_before_it_hears_anything() -> None:
    one, now = lone_server()
    assert given_up(one.wake(now + 1, hearing=True)) == 0

    assert given_up(one.wake(now + 3.6, hearing=True)) == 4


def test_an_old_word_of_our_own_does_not_prove_that_we_hear_again() -> None:
    one, now = lone_server()
    (before,) = (a for a in one.wake(now + 1, hearing=True) if isinstance(a, Announce))
    one.wake(now + 1.1, hearing=False)
    one.wake(now + 1.2, hearing=True)
    one.hear(before.heartbeat, now + 1.3)
    for step in range(20):
        assert joining(one, now + 2 + step / 2)


def test_what_comes_late_and_in_order_makes_nobody_look_dead() -> None:
    """Our own word comes back before those that another said meanwhile: all waited in a queue."""
    one, now = lone_server()
    other = Heartbeat("other", 1, 1000, {"bulk": 4}, joining=True)
    one.hear(other, now)
    said = []
    while one.wake_at < now + 4:
        actions = one.wake(one.wake_at, hearing=True)
        said += [action.heartbeat for action in actions if isinstance(action, Announce)]

    heard = one.hear(said[0], now + 4)
    assert not any(isinstance(action, Died) for action in heard)


def test_who_is_not_called_in_time_listens_for_longer() -> None:
    """What others said may still wait unread."""
    one = Membership("one", {"bulk": 4}, heartbeat=1.0, now=0.0)
    one.wake(0.0, hearing=True)
    (hello,) = one.wake(0.1, hearing=True)
    assert isinstance(hello, Announce)
    one.hear(hello.heartbeat, 0.1)

    assert joining(one, 0.1 + LISTENING + 0.1)


def test_the_claim_of_one_who_leaves_gives_way_to_that_of_one_who_stays() -> None:
    one, now = lone_server()
    claims: dict[str, tuple[int, ...]] = {"bulk": (0, 1, 2, 3)}
    for number in range(10):
        word = Heartbeat(f"w{number}", 1, 1000, {"bulk": 4}, claims, leaving=True)
        assert given_up(one.hear(word, now)) == 0


def test_a_stopped_worker_is_replaced_within_three_heartbeats() -> None:
    swarm = swarm_of(3)
    swarm.pause(swarm.workers[0])
    swarm.run(3)

    assert all(len(swarm.owners(partition)) == 1 for partition in swarm.partitions)


@pytest.mark.parametrize(("length", "noticed"), [(1, True), (30, True), (30, False)])
def test_nobody_is_dead_and_nothing_moves_while_the_broker_lets_nothing_through(
    length: float, noticed: bool
) -> None:
    swarm = swarm_of(3, lossy=noticed)
    before = {worker.membership.worker: worker.claims for worker in swarm.workers}
    for worker in swarm.workers:
        swarm.deafen(worker, noticed=noticed)
    swarm.run(length)
    for worker in swarm.workers:
        swarm.cure(worker)
        swarm.run(0.3)
    swarm.run(5)

    assert {worker.membership.worker: worker.claims for worker in swarm.workers} == before
    assert not any(worker.given_up for worker in swarm.workers)
    assert swarm.died == []


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


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("noticed", [True, False])
def test_a_worker_that_alone_is_cut_off_takes_nothing_and_gives_way_when_it_comes_back(
    noticed: bool, seed: int
) -> None:
    swarm = swarm_of(3, seed=seed)
    cut = swarm.workers[1]
    had, taken = cut.claims, len(cut.taken)
    swarm.deafen(cut, noticed=noticed)
    swarm.run(10)
    others = {p for worker in swarm.workers if worker is not cut for p in worker.claims}
    assert others == set(swarm.partitions)
    assert cut.claims == had
    assert len(cut.taken) == taken
    swarm.cure(cut)
    swarm.run(0.5 + 2 * ONE_MESSAGE + LONGEST_GIVE_UP)

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


def test_a_newcomer_that_hears_nothing_stands_by_for_everything_and_gives_way() -> None:
    one = Membership("one", {"bulk": 4}, heartbeat=1.0, now=0.0)
    actions: list[Action] = []
    for step in range(40):
        assert step >= 12 or not actions
        actions += one.wake(step / 4, hearing=False)
    assert [take.partition.number for take in taken(actions)] == [0, 1, 2, 3]
    assert not any(take.fresh for take in taken(actions))

    one.wake(10.0, hearing=True)
    word = Heartbeat("other", 1, 1000, {"bulk": 4}, {"bulk": (0, 1, 2, 3)})
    assert [give.partition.number for give in ended(one.hear(word, 10.1))] == [0, 1, 2, 3]


def taken(actions: Sequence[Action]) -> list[Take]:
    return [action for action in actions if isinstance(action, Take)]


def ended(actions: Sequence[Action]) -> list[GiveUp]:
    return [action for action in actions if isinstance(action, GiveUp)]
