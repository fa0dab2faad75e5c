from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping

from hypothesis import given
from hypothesis import strategies as st

from services.delivery.assignment import assign, settle
from services.delivery.holding import Partition

NAMES = st.sampled_from([f"worker-{number}" for number in range(9)])
WORKERS = st.sets(NAMES, min_size=1)
LANES = st.integers(1, 40).map(lambda count: [Partition("bulk", n) for n in range(count)])


@st.composite
def situations(
    draw: st.DrawFn,
) -> tuple[list[Partition], set[str], dict[Partition, str]]:
    partitions = draw(LANES)
    holders = draw(st.dictionaries(st.sampled_from(partitions), NAMES))
    return partitions, draw(WORKERS), holders


def moved(before: Mapping[Partition, str], after: Mapping[Partition, str]) -> set[Partition]:
    return {partition for partition in before if before[partition] != after[partition]}


def fewest_moves(
    partitions: Collection[Partition], workers: Collection[str], holders: Mapping[Partition, str]
) -> int:
    """By counting: what is held without a right to it, however the one more is given out."""
    least, over = divmod(len(partitions), len(workers))
    held = Counter(worker for worker in holders.values() if worker in workers)
    kept = sum(min(count, least) for count in held.values())
    kept += min(over, sum(count > least for count in held.values()))
    return len(holders) - kept


@given(situations())
def test_every_partition_has_a_worker_and_no_worker_has_two_more_than_another(
    situation: tuple[list[Partition], set[str], dict[Partition, str]],
) -> None:
    partitions, workers, holders = situation

    target = assign(partitions, workers, holders)

    assert set(target) == set(partitions)
    share = Counter(dict.fromkeys(workers, 0))
    share.update(target.values())
    assert set(share) == workers
    assert max(share.values()) - min(share.values()) <= 1


@given(situations())
def test_as_much_stays_as_balance_allows(
    situation: tuple[list[Partition], set[str], dict[Partition, str]],
) -> None:
    partitions, workers, holders = situation

    target = assign(partitions, workers, holders)

    assert len(moved(holders, target)) == fewest_moves(partitions, workers, holders)


@given(situations())
def test_what_has_been_assigned_stays(
    situation: tuple[list[Partition], set[str], dict[Partition, str]],
) -> None:
    target = assign(*situation)

    assert assign(situation[0], situation[1], target) == target


@given(situations(), st.randoms(use_true_random=False))
def test_a_hand_over_that_is_half_done_goes_on_to_the_same_end(
    situation: tuple[list[Partition], set[str], dict[Partition, str]], rng: random.Random
) -> None:
    """Each partition is still where it was, with nobody, or with its new worker already."""
    partitions, workers, holders = situation
    target = assign(partitions, workers, holders)
    halfway = dict(holders)
    for partition in partitions:
        if holders.get(partition) != target[partition]:
            step = rng.choice(["before", "between", "after"])
            if step != "before":
                halfway.pop(partition, None)
            if step == "after":
                halfway[partition] = target[partition]

    assert assign(partitions, workers, halfway) == target


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_of_what_is_known_does_not_matter(
    situation: tuple[list[Partition], set[str], dict[Partition, str]], rng: random.Random
) -> None:
    partitions, workers, holders = situation
    shuffled = rng.sample(partitions, len(partitions))
    people = rng.sample(sorted(workers), len(workers))
    known = dict(rng.sample(sorted(holders.items()), len(holders)))

    assert assign(shuffled, people, known) == assign(partitions, workers, holders)


@given(LANES, st.lists(st.tuples(st.booleans(), NAMES), max_size=20))
def test_joins_and_leaves_move_only_what_must_move(
    partitions: list[Partition], changes: list[tuple[bool, str]]
) -> None:
    workers = {"first"}
    holders = assign(partitions, workers, {})
    for joins, name in changes:
        before = set(workers)
        workers = workers | {name} if joins else workers - {name}
        target = assign(partitions, workers, holders)

        went = moved(holders, target)
        assert len(went) == fewest_moves(partitions, workers, holders)
        if workers < before:
            assert {holders[partition] for partition in went} <= before - workers
        if workers > before:
            assert {target[partition] for partition in went} <= workers - before
        holders = target


@given(st.dictionaries(NAMES, st.sets(LANES.map(lambda lane: lane[-1]))), st.sets(NAMES))
def test_of_several_claims_one_counts_whatever_the_order_and_a_weak_one_last(
    claims: dict[str, set[Partition]], weak: set[str]
) -> None:
    holders = settle(claims, weak)

    assert holders == settle(dict(reversed(claims.items())), weak)
    assert set(holders) == set().union(*claims.values())
    for partition, worker in holders.items():
        claimants = {name for name, claimed in claims.items() if partition in claimed}
        assert worker in claimants
        assert worker not in weak or claimants <= weak


def test_nobody_to_serve_is_no_error() -> None:
    assert assign([Partition("bulk", 0)], [], {Partition("bulk", 0): "gone"}) == {}


def test_every_process_computes_the_same() -> None:
    """Python's own `hash` differs from process to process."""
    code = (
        "from services.delivery.assignment import assign\n"
        "from services.delivery.holding import Partition\n"
        "print(sorted(assign([Partition('a', n) for n in range(30)], {'x', 'y', 'z'}, {}).items()))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    partitions = [Partition("a", number) for number in range(30)]
    expected = sorted(assign(partitions, ["z", "x", "y"], {}).items())
    assert answers == {f"{expected}\n"}


def test_single_partitions_of_many_lanes_do_not_all_go_to_one_worker() -> None:
    targets = [assign([Partition(f"lane-{n}", 0)], ["a", "b"], {}) for n in range(40)]

    share = Counter(worker for target in targets for worker in target.values())
    assert min(share["a"], share["b"]) >= 10
