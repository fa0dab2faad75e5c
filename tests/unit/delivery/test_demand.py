"""How many workers a load can keep busy: no more than its partitions, connections and time ask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.delivery.demand import WELL_USED, Load, useful_workers
from services.delivery.usefulness import Usefulness, waited
from shared.plan.limits import Limits
from tests.unit.delivery.referee import PARTITION, Referee

LANE = PARTITION.lane
MOST = 100


def useful(*loads: Load, busy: float = 0.0) -> float:
    return useful_workers(loads, MOST, busy, [LANE])[LANE,]


def load(**fields: Any) -> Load:
    return Load(LANE, **fields)


def test_nothing_to_do_needs_nobody_and_each_lane_is_told() -> None:
    assert useful_workers([], MOST, 1.0, ["a", "b"]) == {("a",): 0, ("b",): 0}


def test_connections_that_a_worker_lacks_ask_for_more_workers() -> None:
    assert useful(load(connections=50)) == 0.5
    assert useful(load(connections=60, missing=40), load(connections=40, missing=10)) == 1.5


def test_a_partition_asks_for_one_worker_at_most() -> None:
    assert useful(load(connections=100, missing=900), load(connections=1)) == pytest.approx(1.01)
    assert useful(load(ended=9), busy=1.0) == 1
    assert useful(load(ended=5), load(ended=5), busy=1.0) == pytest.approx(1 / WELL_USED)


def test_time_at_work_belongs_to_the_partitions_whose_transactions_ended() -> None:
    lanes = useful_workers([Load("a", ended=30), Load("b", ended=10)], MOST, 0.56, ["a", "b"])
    assert lanes == {("a",): pytest.approx(0.6), ("b",): pytest.approx(0.2)}


def test_time_spent_on_what_waits_for_limits_asks_for_no_room_to_grow() -> None:
    assert useful(load(ended=5, waiting=400, limited=True), busy=0.9) == pytest.approx(0.9)
    assert useful(load(ended=5, waiting=400), busy=0.9) == 1


def wanted(workers: int, demands: Sequence[float]) -> int:
    """What so many workers ask for, if each partition takes that much of a worker's time."""
    parts = 0.0
    for worker in range(workers):
        mine = demands[worker::workers]
        loads = [load(ended=round(1000 * demand), waiting=1) for demand in mine]
        parts += useful(*loads, busy=min(1.0, sum(mine)))
    return max(1, math.ceil(parts))


def settled(workers: int, demands: Sequence[float]) -> int:
    for _ in range(2 * len(demands)):
        before, workers = workers, wanted(workers, demands)
        if workers == before:
            return workers
    raise AssertionError("it goes to and fro")


@pytest.mark.parametrize("total", [0.0, 0.3, 0.8, 1.9, 3.3, 5.0, 9.0])
def test_from_one_worker_or_from_many_the_same_number_is_reached_and_kept(total: float) -> None:
    demands = [total / 16] * 16
    workers = settled(1, demands)
    assert workers == settled(16, demands) == max(1, math.ceil(total / WELL_USED))


def test_more_than_each_partition_with_a_worker_of_its_own_is_never_asked_for() -> None:
    assert settled(1, [5.0] * 4) == 4


# What the scheduler tells.


def referee(limits: Limits, most: int = MOST) -> Referee:
    one = Referee(lambda _: limits, most=most)
    one.take()
    return one


def the_load(one: Referee) -> Load:
    (load,) = one.scheduler.loads(one.now)
    return load


def open_all(one: Referee) -> None:
    for connection in list(one.opening):
        one.opened(connection)


def test_a_giant_at_its_connections_is_limited_and_lacks_nothing() -> None:
    one = referee(Limits(connections=3))
    for _ in range(6):
        one.arrive()
    open_all(one)
    assert the_load(one) == load(connections=3, waiting=3, limited=True)
    assert useful(the_load(one), busy=0.2) <= 0.2


@pytest.mark.parametrize(
    "limits", [Limits(messages_per_second=0.5), Limits(connections_per_minute=1)]
)
def test_a_site_at_its_rate_is_limited(limits: Limits) -> None:
    one = referee(limits)
    for _ in range(4):
        one.arrive()
    open_all(one)
    found = the_load(one)
    assert found.limited
    assert found.waiting == 3
    assert found.missing == 0


def test_while_we_are_what_takes_long_connections_limit_nothing() -> None:
    one = referee(Limits(connections=1))
    one.arrive()
    one.arrive()
    open_all(one)
    one.scheduler.ours = 1.0
    assert not the_load(one).limited


def test_one_site_that_waits_for_us_is_enough_to_grow() -> None:
    one = Referee(lambda site: Limits(connections=1 if site == "giant" else 20), most=2)
    one.take()
    for site in ("giant", "giant", "a", "a"):
        one.arrive(site)
    open_all(one)
    assert the_load(one) == load(connections=2, missing=1, waiting=2)


def test_many_slow_sites_lack_what_the_worker_has_not() -> None:
    one = referee(Limits(connections=4), most=10)
    for _ in range(2):
        for site in range(20):
            one.arrive(f"site {site}")
    open_all(one)
    found = the_load(one)
    assert found == load(connections=10, missing=30, waiting=30)
    assert useful_workers([found] * 3, 10, 0.1, [LANE])[LANE,] == 3


def test_transactions_are_counted_from_look_to_look_and_idle_connections_are_not_in_use() -> None:
    one = referee(Limits())
    one.arrive()
    one.arrive()
    open_all(one)
    for connection in list(one.busy):
        one.over(connection)
    assert the_load(one) == load(ended=2)
    assert the_load(one) == load()


def test_a_partition_that_was_given_up_is_no_load() -> None:
    one = referee(Limits())
    one.arrive()
    open_all(one)
    one.give_up()
    assert list(one.scheduler.loads(one.now)) == []


# What is shown.


class World:
    """Times that a test moves."""

    def __init__(self) -> None:
        self.now = self.cpu = self.waited = 0.0
        self.loads: Sequence[Load] = [load(ended=1), load(ended=1)]
        self.shown = Usefulness(
            lambda: self.loads,
            MOST,
            [LANE],
            clock=lambda: self.now,
            cpu=lambda: self.cpu,
            waited=lambda: self.waited,
        )

    def look(self) -> float | None:
        self.shown.look()
        return gauge()


def gauge() -> float | None:
    return REGISTRY.get_sample_value("postroad_useful_workers", {"lane": LANE})


def test_a_worker_is_busy_while_it_runs_and_while_it_is_kept_from_running() -> None:
    world = World()
    world.now, world.cpu = 10.0, 7.0
    assert world.look() == pytest.approx(0.7 / WELL_USED)
    world.now, world.cpu, world.waited = 20.0, 9.0, 3.0
    assert world.look() == pytest.approx(0.5 / WELL_USED), "since the last look"
    world.now, world.cpu = 30.0, 29.0
    assert world.look() == pytest.approx(1 / WELL_USED), "several threads, and one loop"


def test_the_wait_for_a_processor_is_what_linux_tells_or_nothing(tmp_path: Path) -> None:
    told = tmp_path / "schedstat"
    told.write_text("42424989 2500000000 138\n")
    assert waited(told) == 2.5
    for text in ("", "42\n", "a b c\n"):
        told.write_text(text)
        assert waited(told) == 0.0
    assert waited(tmp_path / "missing") == 0.0
    assert waited() >= 0.0


def test_a_worker_that_leaves_tells_no_old_number() -> None:
    world = World()
    world.now = 1.0
    world.look()
    assert gauge() == 0
    world.shown.stop()
    assert gauge() is None
