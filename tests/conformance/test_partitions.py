"""Queues of which one consumer is served, of all processes, and queues of former plans."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from shared.broker.interface import Broker, Consumer, Delivery, Outgoing
from shared.broker.topology import CROWD, DUE, PARKED, build_topology, lane_queue
from tests.conformance.harness import (
    PATIENCE,
    STEP_MS,
    Harness,
    Inbox,
    lane,
    lane_topology,
    publish,
    stand_by,
    until_depths,
)

LANE = lane(0)


@pytest.fixture
async def left(harness: Harness) -> Broker:
    return await harness.open(lane_topology(x=2))


@pytest.fixture
async def right(harness: Harness) -> Broker:
    return await harness.open(lane_topology(x=2))


async def served_first(broker: Broker, prefetch: int = 10) -> tuple[Consumer, Inbox]:
    """A consumer of the lane that is served, as a first message shows."""
    inbox = Inbox()
    consumer = broker.consume(LANE, prefetch, inbox)
    await publish(broker, "first", queue=LANE)
    (await inbox.next()).ack()
    return consumer, inbox


async def test_one_consumer_is_served_and_the_other_when_it_stops(
    left: Broker, right: Broker
) -> None:
    consumer, active = await served_first(left)
    others = await stand_by(right, LANE)
    await publish(right, "a", "b", queue=LANE)
    for delivery in await active.take(2):
        delivery.ack()
    assert others.arrived.empty()
    await consumer.stop()
    await publish(left, "c", queue=LANE)
    assert (await others.next()).message_id == "c"
    assert active.arrived.empty()


async def test_one_of_two_consumers_of_one_process_is_served(left: Broker) -> None:
    consumer, active = await served_first(left)
    others = await stand_by(left, LANE)
    await publish(left, "a", "b", queue=LANE)
    assert [delivery.message_id for delivery in await active.take(2)] == ["a", "b"]
    await consumer.stop()
    await publish(left, "c", queue=LANE)
    assert (await others.next()).message_id == "c"


async def test_each_queue_has_a_consumer_of_its_own_that_is_served(
    left: Broker, right: Broker
) -> None:
    await served_first(left)
    others = Inbox(acknowledge=True)
    right.consume(LANE, 10, Inbox())
    right.consume(lane(1), 10, others)
    await publish(left, "a", queue=lane(1))
    assert (await others.next()).message_id == "a"


async def test_what_a_closing_broker_held_comes_to_the_standby_in_its_order(
    left: Broker, right: Broker
) -> None:
    _, active = await served_first(left, prefetch=3)
    others = await stand_by(right, LANE)
    names = [f"{number}" for number in range(9)]
    await publish(left, *names, queue=LANE)
    await active.take(3)
    await left.close()
    seen = [delivery.message_id for delivery in await others.take(9)]
    assert sorted(seen) == names
    assert [name for name in seen if name in names[:3]] == names[:3]


async def test_what_a_stopped_consumer_still_holds_is_its_own_to_settle(
    left: Broker, right: Broker
) -> None:
    consumer, active = await served_first(left)
    others = await stand_by(right, LANE)
    await publish(left, "kept", "back", queue=LANE)
    kept, back = await active.take(2)
    await consumer.stop()
    await publish(left, "new", queue=LANE)
    assert (await others.next()).message_id == "new"
    back.release()
    again = await others.next()
    assert (again.message_id, again.attempts) == ("back", 0)
    kept.ack()
    await left.close()
    await until_depths(right, **{LANE.replace(".", "_"): 0})
    assert others.arrived.empty()


async def test_what_was_not_handed_out_when_its_consumer_stopped_goes_back_uncounted(
    left: Broker, right: Broker
) -> None:
    names = {f"{number}" for number in range(50)}
    await publish(left, *names, queue=LANE)
    stopping: list[asyncio.Task[None]] = []
    mine: list[Delivery] = []

    def stop_at_once(delivery: Delivery) -> None:
        mine.append(delivery)
        if not stopping:
            stopping.append(asyncio.create_task(consumer.stop()))

    consumer = left.consume(LANE, 50, stop_at_once)
    while not stopping:
        await asyncio.sleep(0.001)
    await asyncio.wait_for(stopping[0], PATIENCE)
    inbox = Inbox(acknowledge=True)
    right.consume(LANE, 50, inbox)
    others = [await inbox.next() for _ in range(len(names) - len(mine))]
    assert {delivery.message_id for delivery in (*mine, *others)} == names
    assert {delivery.attempts for delivery in others} <= {0}


async def test_nothing_is_lost_while_consumers_stop_and_start_under_load(
    left: Broker, right: Broker
) -> None:
    names = [f"{number}" for number in range(1000)]
    seen: Counter[str] = Counter()
    complete = asyncio.Event()

    def handle(delivery: Delivery) -> None:
        seen[delivery.message_id] += 1
        delivery.ack()
        if len(seen) == len(names):
            complete.set()

    async def load() -> None:
        for start in range(0, len(names), 20):
            await publish(left, *names[start : start + 20], queue=LANE)

    loading = asyncio.create_task(load())
    for _ in range(25):
        for broker in (left, right):
            consumer = broker.consume(LANE, 10, handle)
            await asyncio.sleep(0)
            await consumer.stop()
    left.consume(LANE, 10, handle)
    await asyncio.wait_for(asyncio.gather(loading, complete.wait()), PATIENCE)
    assert seen.total() == len(names)
    await left.close()
    await until_depths(right, **{LANE.replace(".", "_"): 0, PARKED.replace(".", "_"): 0})


async def test_queues_of_a_former_plan_are_named_and_can_be_consumed(harness: Harness) -> None:
    former = await harness.open(lane_topology(x=2, y=1))
    for queue in (lane(0), lane(1), lane(0, "y")):
        await publish(former, queue, queue=queue)
    assert list(await former.left_over()) == []
    await former.close()
    changed = await harness.open(lane_topology(x=1))
    assert sorted(await changed.left_over()) == [lane(1), lane(0, "y")]
    inbox = Inbox()
    changed.consume(lane(1), 10, inbox)
    delivery = await inbox.next()
    assert delivery.body == lane(1).encode()
    await delivery.forward([Outgoing(lane(0), b"moved", "moved")])
    await until_depths(changed, **{lane(0).replace(".", "_"): 2})


async def test_jobs_that_come_again_have_queues_of_their_own_with_one_active_consumer(
    harness: Harness,
) -> None:
    broker = await harness.open(build_topology([STEP_MS], {"x": 1}, ["bulk"]))
    first, again = (lane_queue("x", 0, "bulk", again=which) for which in (False, True))
    await publish(broker, "a", "b", queue=again)
    await publish(broker, "c", queue=first)
    served, other, fresh = Inbox(), Inbox(), Inbox()
    broker.consume(again, 1, served)
    assert (await served.next()).message_id == "a"
    broker.consume(again, 1, other)
    broker.consume(first, 1, fresh)
    assert (await fresh.next()).message_id == "c"
    assert other.arrived.empty()
    await broker.close()
    changed = await harness.open(build_topology([STEP_MS], {"y": 1}, ["bulk"]))
    assert sorted(await changed.left_over()) == [first, again]
    left_over = Inbox()
    changed.consume(again, 10, left_over)
    assert {delivery.message_id for delivery in await left_over.take(2)} == {"a", "b"}


@pytest.mark.parametrize("due", [DUE, CROWD])
async def test_a_job_comes_back_the_way_it_was_sent(harness: Harness, due: str) -> None:
    broker = await harness.open(build_topology([STEP_MS]))
    inbox = Inbox()
    broker.consume(due, 1, inbox)
    await broker.publish(Outgoing(due, b"", "a", delay_ms=STEP_MS))
    delivery = await inbox.next()
    assert (delivery.queue, delivery.message_id) == (due, "a")


async def test_queues_of_all_former_plans_are_named_however_often_one_asks(
    harness: Harness,
) -> None:
    for name in ("x", "y", "z"):
        former = await harness.open(lane_topology(**{name: 1}))
        await publish(former, "a", queue=lane(0, name))
    now = await harness.open(lane_topology(x=1))
    for _ in range(30):  # more often than a message may be delivered in vain
        assert sorted(await now.left_over()) == [lane(0, "y"), lane(0, "z")]


async def test_a_left_over_message_that_keeps_failing_is_parked(harness: Harness) -> None:
    former = await harness.open(lane_topology(y=1))
    await publish(former, "a", queue=lane(0, "y"))
    await former.close()
    now = await harness.open(lane_topology())
    parked = Inbox()
    now.consume(lane(0, "y"), 1, lambda delivery: delivery.failed())
    now.consume(PARKED, 1, parked)
    assert (await parked.next()).message_id == "a"
