"""What the scheduler decides in one situation after another."""

from __future__ import annotations

import heapq

import pytest

from services.delivery.admission import HELD
from services.delivery.crowds import FAR, MANY
from services.delivery.decisions import GiveBack, Open, Unreachable
from services.delivery.holding import Trace
from services.delivery.routes import Connection
from services.delivery.scheduler import BACK_OFF
from services.delivery.waiting import AGAIN, Waiting
from shared.plan.limits import Limits
from tests.unit.delivery.referee import PARTITION, Life, Referee


def referee(limits: Limits | None = None, prefetch: int = 64, *, fresh: bool = True) -> Referee:
    one = Referee(lambda _: limits or Limits(), prefetch)
    one.take(fresh=fresh)
    return one


def open_all(one: Referee) -> list[Connection]:
    opened = list(one.opening)
    for connection in opened:
        one.opened(connection)
    return opened


def finish_all(one: Referee) -> None:
    while one.busy or one.opening:
        open_all(one)
        for connection in list(one.busy):
            one.over(connection)


def test_a_connection_takes_job_after_job_of_its_route() -> None:
    one = referee()
    one.arrive()
    (connection,) = open_all(one)
    one.over(connection)
    one.arrive()
    assert list(one.busy) == [connection]
    assert one.ended[Open] == 1


def test_an_idle_connection_of_another_route_is_not_used() -> None:
    one = referee()
    one.arrive(route="r")
    finish_all(one)
    one.arrive(route="s")
    assert one.ended[Open] == 2


def test_an_idle_connection_makes_room_for_another_route() -> None:
    one = referee(Limits(connections=1))
    one.arrive(route="r")
    finish_all(one)
    waiting = one.arrive(route="s")
    (closing,) = one.closing
    one.closed(closing)
    assert list(one.opening.values()) == [waiting]


def test_a_busy_connection_makes_room_for_a_transactional_job_of_another_route() -> None:
    one = referee(Limits(connections=1))
    for _ in range(3):
        one.arrive(route="r")
    (connection,) = open_all(one)
    urgent = one.arrive(route="s", urgent=True)
    one.over(connection)
    one.closed(connection)
    assert list(one.opening.values()) == [urgent]


def test_a_route_that_never_rests_makes_room_in_the_end() -> None:
    one = referee(Limits(connections=1, messages_per_connection=10_000))
    one.arrive(route="r")
    (connection,) = open_all(one)
    waiting = one.arrive(route="s")
    for _ in range(30):
        one.arrive(route="r")
        one.pass_time(1)
        if connection in one.closing:
            break
        one.over(connection)
    one.closed(connection)
    assert list(one.opening.values()) == [waiting]


def test_a_job_that_goes_on_elsewhere_gets_a_connection_of_its_own() -> None:
    one = referee(Limits(connections=2))
    first, second = one.arrive(), one.arrive()
    one.arrive()
    connection, _ = open_all(one)
    one.over(connection, usable=False, again=True)
    one.closed(connection)
    assert list(one.opening.values()) == [first]
    assert second in one.busy.values()


def test_jobs_for_hosts_that_do_not_answer_end_alike() -> None:
    one = referee()
    for _ in range(20):
        one.arrive(route="dead")
    one.failed(next(iter(one.opening)))
    waited = one.ended[Unreachable]
    assert waited == 20 - 5
    one.arrive(route="dead")
    assert one.ended[Unreachable] == waited + 1
    one.arrive(route="alive")
    assert one.ended[Unreachable] == waited + 1


def test_one_job_at_a_time_tries_hosts_that_did_not_answer() -> None:
    one = referee()
    one.arrive()
    one.failed(next(iter(one.opening)))
    one.pass_time(6)
    for _ in range(3):
        one.arrive()
    assert len(one.opening) == 1
    open_all(one)
    assert len(one.opening) == 2


def test_hosts_that_answer_somebody_are_not_given_up() -> None:
    one = referee()
    for _ in range(2):
        one.arrive()
    first, second = one.opening
    one.opened(first)
    one.failed(second)
    one.arrive()
    assert one.ended[Unreachable] == 0


def test_a_lost_connection_that_waited_for_its_time_costs_no_job() -> None:
    one = referee(Limits(messages_per_second=1))
    one.arrive()
    open_all(one)
    second = one.arrive()
    one.pass_time(0.5)
    (connection,) = open_all(one)
    assert connection.item is second
    one.closed(connection)
    assert list(one.opening.values()) == [second]


def test_new_limits_close_what_lies_idle_beyond_them() -> None:
    one = referee()
    for _ in range(4):
        one.arrive()
    for connection in open_all(one):
        one.over(connection)
    one.set_limits(lambda _: Limits(connections=2))
    assert len(one.closing) == 2
    one.set_limits(lambda _: Limits(messages_per_connection=1))
    assert len(one.closing) == 4


def test_few_connections_are_opened_to_a_site_that_has_not_answered() -> None:
    one = referee()
    for _ in range(30):
        one.arrive()
    assert len(one.opening) == 5
    finish_all(one)
    for _ in range(20):
        one.arrive()
    assert len(one.sites["a"].connections) > 5


def test_a_site_gets_the_next_connection_of_the_worker_when_it_has_no_more_to_open() -> None:
    one = Referee(lambda _: Limits(), most=2)
    one.take()
    first, second = one.arrive("a"), one.arrive("b")
    for connection in list(one.opening):
        one.opened(connection)
    third, fourth = one.arrive("c"), one.arrive("d")
    assert not one.opening
    one.over(next(iter(one.busy)))
    one.closed(next(iter(one.closing)))
    assert list(one.opening.values()) == [third]
    assert one.life[fourth] is Life.WAITING
    assert (one.life[first], one.life[second]) == (Life.OVER, Life.BEGUN)


def test_what_former_owners_have_open_counts() -> None:
    lane, number = PARTITION
    one = Referee(lambda _: Limits(connections=3))
    one.residual["a"] = 2
    one.take(traces=(Trace(lane, number, "a", 2),))
    one.arrive()
    one.arrive()
    assert len(one.opening) == 1
    one.heed("a", 0)
    assert len(one.opening) == 2


def test_what_former_owners_opened_within_the_minute_counts() -> None:
    lane, number = PARTITION
    one = Referee(lambda _: Limits(connections_per_minute=6))
    one.take(fresh=False, traces=(Trace(lane, number, "a", 0, (0, 0, 3, 0, 0, 2)),))
    for _ in range(6):
        one.arrive()
    assert len(one.opening) == 1
    one.pass_time(46)
    assert len(one.opening) == 3


def test_what_nobody_tells_of_was_used_up_evenly() -> None:
    one = referee(Limits(connections_per_minute=12), fresh=False)
    for _ in range(12):
        one.arrive()
    assert not one.opening
    one.pass_time(15)
    assert 1 <= len(one.opening) <= 3


def test_a_paced_site_that_was_taken_over_starts_with_an_empty_bucket() -> None:
    one = referee(Limits(messages_per_second=0.5), fresh=False)
    one.arrive()
    one.pass_time(1.5)
    open_all(one)
    assert not one.busy
    one.pass_time(0.5)
    assert len(one.busy) == 1


def test_no_job_is_held_for_long() -> None:
    one = referee(Limits(connections=1))
    for _ in range(2):
        one.arrive()
    open_all(one)
    one.pass_time(HELD + 20)
    assert [decision.reason for decision in one.given_back] == ["late"]


def test_a_crowded_queue_still_takes_jobs_of_other_sites() -> None:
    one = referee(Limits(connections=10))
    for _ in range(60):
        one.arrive("slow")
        open_all(one)
        one.pass_time(1)
        finish_all(one)
    for _ in range(1000):
        one.arrive("slow")
    held = one.scheduler._partitions[PARTITION].held[0]
    assert held < 64
    other = one.arrive("other")
    assert one.life[other] is Life.BOUND


def test_a_site_that_turns_out_to_be_slow_makes_room_in_its_queue() -> None:
    one = referee()
    for _ in range(one.prefetch):
        one.arrive("silent")
    one.pass_time(3)
    assert one.scheduler._partitions[PARTITION].held[0] < one.prefetch * 3 / 4


def test_a_crowd_that_comes_again_leaves_room_for_those_that_come_first() -> None:
    one = referee(Limits(connections=10))
    for _ in range(one.prefetch):
        one.arrive("silent", again=True)
    first = [one.arrive("silent") for _ in range(20)]
    assert {one.life[item] for item in first} == {Life.WAITING}
    one.pass_time(3)
    partition = one.scheduler._partitions[PARTITION]
    assert partition.held[AGAIN] < one.prefetch * 3 / 4
    assert partition.held[0] == len(first)


def test_of_many_jobs_of_a_dead_site_most_are_a_crowd() -> None:
    one = referee()
    one.arrive()
    one.failed(next(iter(one.opening)))
    turned_away = [one.arrive(again=True) for _ in range(MANY + 10)]
    assert [item.crowd for item in turned_away] == [False] * MANY + [True] * 10
    other = one.arrive("other")
    one.failed(next(iter(one.opening)))
    assert not other.crowd
    assert not one.arrive("other").crowd


def test_a_job_whose_turn_is_far_away_has_time() -> None:
    one = referee(Limits(messages_per_second=1))
    items = [one.arrive() for _ in range(int(2 * FAR))]
    away = {decision.item: decision.turn - one.now for decision in one.given_back}
    assert {item.crowd for item in items if item in away} == {False, True}
    assert all(item.crowd is (wait > FAR) for item, wait in away.items())


@pytest.mark.parametrize("guessed_wrong", [False, True])
def test_a_long_line_goes_round_rarely_and_keeps_the_site_busy(guessed_wrong: bool) -> None:
    rate, jobs = 10.0, 3000
    one = referee(Limits(connections=5, messages_per_second=0 if guessed_wrong else rate))
    most_held = _run_line(one, jobs, 0.5 if guessed_wrong else 0.05)
    assert len(one.order) == jobs
    assert one.now - 1000 < 1.2 * jobs / rate
    assert len(one.given_back) < 12 * jobs
    assert most_held <= one.prefetch


def _run_line(one: Referee, jobs: int, seconds: float) -> int:
    """All jobs come at once, return after their waits, and each transaction takes `seconds`."""
    coming = [(one.now + n * 0.001, n, 0.0) for n in range(jobs)]
    number, most, seen = jobs, 0, 0
    since: dict[Waiting, float] = {}
    while coming or one.unfinished():
        held = one.scheduler._partitions[PARTITION].held
        while coming and coming[0][0] <= one.now and held[0] < one.prefetch:
            one.arrive(turn=heapq.heappop(coming)[2])
        one.pass_time(0.05)
        open_all(one)
        for connection, item in list(one.busy.items()):
            if one.now - since.setdefault(item, one.now) >= seconds - 0.06:
                one.over(connection)
        for connection in list(one.closing):
            one.closed(connection)
        for decision in one.given_back[seen:]:
            number += 1
            heapq.heappush(coming, (one.now + decision.delay_ms / 1000, number, decision.turn))
        seen = len(one.given_back)
        most = max(most, held[0])
        for item in [item for item, life in one.life.items() if life is Life.OVER]:
            del one.life[item]
    assert one.ended[GiveBack] == len(one.given_back)
    return most


def test_while_others_still_have_all_connections_jobs_come_back_soon() -> None:
    """Right after a hand-over nothing ends here, but nothing was begun here either."""
    one = referee(Limits(connections=2), prefetch=10)
    one.heed("a", 2)
    for _ in range(200):
        one.arrive()

    assert one.given_back
    assert all(decision.delay_ms <= 5_000 for decision in one.given_back)


def test_a_site_is_left_alone_from_a_failure_until_somebody_may_try_again() -> None:
    one = referee()
    one.arrive("a")
    one.arrive("b")

    def left_alone() -> list[str]:
        return [name for name, _ in one.scheduler.left_alone(one.now)]

    assert left_alone() == []
    one.failed(next(iter(one.opening)))
    assert left_alone() == ["a"]
    one.pass_time(BACK_OFF[0])
    assert left_alone() == []
    one.arrive("a")
    one.failed(next(reversed(one.opening)))
    assert left_alone() == ["a"]
