"""The table of queues: what each process declares of it, and what former plans declared."""

from __future__ import annotations

import pytest

from shared.broker.topology import (
    ACCEPTED,
    CROWD,
    DELIVERY_LIMIT,
    DUE,
    GUARANTEED_EVENTS,
    PARKED,
    WAIT_STEPS_MS,
    Queue,
    amqp_arguments,
    build_topology,
    entrance,
    lane_queue,
    outlook,
)

TOPOLOGY = build_topology([60_000, 60_000], {"x": 2})


def test_each_partition_of_a_lane_has_two_queues_a_class_with_one_active_consumer_each() -> None:
    names = {
        lane_queue("x", n, kind, again=again)
        for n in (0, 1)
        for kind in ("transactional", "bulk")
        for again in (False, True)
    }
    assert len(names) == 8
    assert TOPOLOGY.lanes() == names
    assert {queue.name for queue in TOPOLOGY.queues if queue.single_active} == names
    queue = TOPOLOGY.find(lane_queue("x", 0, "bulk"))
    assert queue is not None
    assert amqp_arguments(queue)["x-single-active-consumer"] is True


@pytest.mark.parametrize("again", [False, True])
def test_a_queue_of_a_former_plan_is_what_it_was_and_any_other_is_unknown(again: bool) -> None:
    former = lane_queue("gone", 7, "bulk", again=again)
    assert TOPOLOGY.find(former) == Queue(former, PARKED, DELIVERY_LIMIT, single_active=True)
    assert TOPOLOGY.find("gone") is None
    assert former not in TOPOLOGY.names()


def test_jobs_that_wait_come_back_either_way_after_any_declared_delay() -> None:
    steps = {
        TOPOLOGY.delayed_through(due, delay)
        for due in (DUE, CROWD)
        for delay in (60_000, *WAIT_STEPS_MS)
    }
    assert len(steps) == 2 * (1 + len(WAIT_STEPS_MS))
    assert "postroad.retry.60000ms" in steps  # as releases named it that had one way only
    with pytest.raises(ValueError, match="delay"):
        TOPOLOGY.delayed_through(DUE, 60_001)
    with pytest.raises(ValueError, match="delay"):
        TOPOLOGY.delayed_through(ACCEPTED, 60_000)


def test_ingress_declares_no_lane_and_no_delay_and_all_that_its_queues_need() -> None:
    queues = {queue.name: queue for queue in entrance().queues}
    assert set(queues) == {ACCEPTED, PARKED}
    everything = {queue.name: queue for queue in TOPOLOGY.queues}
    assert queues.items() <= everything.items()  # the same arguments, or the broker refuses one


def test_guaranteed_events_have_a_queue_that_loses_none_where_somebody_asked_for_them() -> None:
    declared = {
        queue
        for topology in (build_topology([1000], events=True), entrance(events=True), outlook())
        for queue in topology.queues
        if queue.name == GUARANTEED_EVENTS
    }
    assert declared == {Queue(GUARANTEED_EVENTS, PARKED, DELIVERY_LIMIT)}
    for topology in (build_topology([1000]), entrance()):
        assert GUARANTEED_EVENTS not in topology.names()
    assert PARKED in outlook().names()
