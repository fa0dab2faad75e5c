"""What the next owner of a partition is told, in simulated time (see `tests.support.swarm`)."""

from __future__ import annotations

from services.delivery.holding import Trace
from tests.support.swarm import ONE_MESSAGE, swarm_of


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


def test_what_the_others_tell_of_a_loss_does_not_make_it_younger() -> None:
    swarm = swarm_of(5)
    swarm.kill(swarm.workers[0])
    swarm.run(62.5)
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
