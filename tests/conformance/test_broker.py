"""What every broker must do, whichever it is: the contract of `shared.broker.interface`."""

from __future__ import annotations

import asyncio
import os

import pytest

from shared.broker.interface import (
    Broker,
    Delivery,
    Outgoing,
    ParkReason,
    PublishError,
    Unavailable,
    Unroutable,
)
from shared.broker.parking import DETAIL, QUEUE, REASON
from shared.broker.topology import PARKED
from tests.conformance.harness import (
    LIMIT,
    OTHER,
    PATIENCE,
    STEP_MS,
    WORK,
    Harness,
    Inbox,
    publish,
    small_topology,
    until_depths,
)


async def test_a_confirmed_message_is_there_after_close_and_reopen(harness: Harness) -> None:
    first = await harness.open()
    await publish(first, "a")
    await first.close()
    second = await harness.open()
    inbox = Inbox()
    second.consume(WORK, 10, inbox)
    delivery = await inbox.next()
    assert (delivery.message_id, delivery.body, delivery.attempts) == ("a", b"a", 0)
    assert delivery.queue == WORK


async def test_a_publish_to_a_queue_that_does_not_exist_is_unroutable(broker: Broker) -> None:
    with pytest.raises(Unroutable):
        await broker.publish(Outgoing("missing", b"x", "x"))
    await publish(broker, "the next one is stored")


async def test_one_consumer_sees_messages_in_their_order(broker: Broker) -> None:
    names = [f"{number}" for number in range(200)]
    await publish(broker, *names)
    inbox = Inbox(acknowledge=True)
    broker.consume(WORK, 30, inbox)
    assert [delivery.message_id for delivery in await inbox.take(200)] == names


async def test_no_more_than_the_prefetch_is_unsettled(broker: Broker) -> None:
    await publish(broker, *"abcde")
    inbox = Inbox()
    broker.consume(WORK, 2, inbox)
    first, _ = await inbox.take(2)
    await until_depths(broker, work=3)
    assert inbox.arrived.empty()
    first.ack()
    assert (await inbox.next()).message_id == "c"
    await until_depths(broker, work=2)
    assert inbox.arrived.empty()


async def test_an_acknowledged_message_is_gone(harness: Harness) -> None:
    broker = await harness.open()
    await publish(broker, "a", "b")
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    for delivery in await inbox.take(2):
        delivery.ack()
    await broker.close()
    await until_depths(await harness.open(), work=0, postroad_parked=0)


async def test_releases_are_not_counted(broker: Broker) -> None:
    await publish(broker, "a")
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    for _ in range(3 * LIMIT):
        delivery = await inbox.next()
        assert (delivery.attempts, delivery.body) == (0, b"a")
        delivery.release()
    (await inbox.next()).ack()
    await until_depths(broker, work=0, postroad_parked=0)


async def test_failures_are_counted_and_above_the_limit_the_message_is_parked(
    broker: Broker,
) -> None:
    await publish(broker, "a")
    inbox, parked = Inbox(), Inbox()
    broker.consume(WORK, 10, inbox)
    broker.consume(PARKED, 10, parked)
    for attempts in range(LIMIT + 1):
        delivery = await inbox.next()
        assert delivery.attempts == attempts
        delivery.failed()
    found = await parked.next()
    assert (found.message_id, found.body) == ("a", b"a")
    assert inbox.arrived.empty()


async def test_an_exception_of_the_handler_counts_as_failed(broker: Broker) -> None:
    attempts: list[int] = []

    def broken(delivery: Delivery) -> None:
        attempts.append(delivery.attempts)
        raise RuntimeError("broken")

    parked = Inbox()
    broker.consume(WORK, 10, broken)
    broker.consume(PARKED, 10, parked)
    await publish(broker, "a")
    assert (await parked.next()).message_id == "a"
    assert attempts == list(range(LIMIT + 1))


async def test_a_poison_message_does_not_stop_the_queue_behind_it(broker: Broker) -> None:
    inbox = Inbox()

    def broken_for_a(delivery: Delivery) -> None:
        if delivery.message_id == "a":
            raise RuntimeError("broken")
        inbox(delivery)

    await publish(broker, "a", "b")
    broker.consume(WORK, 1, broken_for_a)
    assert (await inbox.next()).message_id == "b"


async def test_a_rejected_message_is_parked_with_reason_detail_and_queue(broker: Broker) -> None:
    await broker.publish(Outgoing(WORK, b"body", "a", headers={"own": "kept"}))
    inbox, parked = Inbox(), Inbox()
    broker.consume(WORK, 10, inbox)
    await (await inbox.next()).reject(ParkReason.UNDECODABLE, "byte 3")
    broker.consume(PARKED, 10, parked)
    found = await parked.next()
    assert (found.message_id, found.body, found.attempts) == ("a", b"body", 0)
    expected = {"own": "kept", REASON: "undecodable", DETAIL: "byte 3", QUEUE: WORK}
    assert expected.items() <= dict(found.headers).items()
    await until_depths(broker, work=0)


async def test_a_forward_publishes_all_successors_and_settles(broker: Broker) -> None:
    await publish(broker, "a")
    inbox, others = Inbox(), Inbox()
    broker.consume(WORK, 10, inbox)
    successors = [Outgoing(OTHER, b"1", "a1"), Outgoing(OTHER, b"2", "a2")]
    await asyncio.wait_for((await inbox.next()).forward(successors), PATIENCE)
    broker.consume(OTHER, 10, others)
    assert {delivery.message_id for delivery in await others.take(2)} == {"a1", "a2"}
    await until_depths(broker, work=0, other=0)
    assert inbox.arrived.empty()


async def test_a_forward_of_nothing_only_settles(broker: Broker) -> None:
    await publish(broker, "a")
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    await asyncio.wait_for((await inbox.next()).forward([]), PATIENCE)
    await publish(broker, "b")
    assert (await inbox.next()).message_id == "b"


async def test_a_forward_to_a_missing_queue_keeps_the_predecessor(harness: Harness) -> None:
    broker = await harness.open()
    await publish(broker, "a")
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    moved = (await inbox.next()).forward([Outgoing("missing", b"1", "a1")])
    await publish(broker, "b")  # has gone the same way by now, and was confirmed
    await broker.close()
    with pytest.raises(PublishError):
        await moved
    again = Inbox()
    (await harness.open()).consume(WORK, 10, again)
    assert {delivery.message_id for delivery in await again.take(2)} == {"a", "b"}


async def test_a_second_verb_does_nothing(broker: Broker) -> None:
    await publish(broker, "a")
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    delivery = await inbox.next()
    delivery.ack()
    delivery.release()
    delivery.failed()
    delivery.ack()
    await publish(broker, "b")
    last = await inbox.next()
    assert (last.message_id, last.attempts) == ("b", 0)
    last.ack()
    await until_depths(broker, work=0, postroad_parked=0)


async def test_a_publish_after_the_close_is_unavailable(harness: Harness) -> None:
    broker = await harness.open()
    assert (broker.usable, broker.blocked) == (True, False)
    await broker.close()
    assert not broker.usable
    with pytest.raises(Unavailable):
        await broker.publish(Outgoing(WORK, b"", "late"))


async def test_a_broker_that_was_not_started_is_not_usable(
    harness: Harness,
) -> None:
    broker = harness.create(small_topology())
    assert not broker.usable
    with pytest.raises(Unavailable):
        await broker.wait_usable(0.01)


async def test_two_consumers_share_a_queue(broker: Broker) -> None:
    left, right = Inbox(), Inbox()
    broker.consume(WORK, 2, left)
    broker.consume(WORK, 2, right)
    await publish(broker, *"abcd")
    deliveries = [*await left.take(2), *await right.take(2)]
    assert sorted(delivery.message_id for delivery in deliveries) == list("abcd")


async def test_two_processes_worth_of_brokers_share_a_queue(harness: Harness) -> None:
    sender, receiver = await harness.open(), await harness.open()
    inbox = Inbox()
    receiver.consume(WORK, 10, inbox)
    await publish(sender, "a")
    delivery = await inbox.next()
    assert delivery.message_id == "a"
    delivery.ack()
    await until_depths(sender, work=0)


@pytest.mark.parametrize("body", [b"", os.urandom(1 << 20), bytes(range(256))])
async def test_bodies_arrive_byte_for_byte(broker: Broker, body: bytes) -> None:
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    await broker.publish(Outgoing(WORK, b"before", "0"))
    await broker.publish(Outgoing(WORK, body, "1"))
    await broker.publish(Outgoing(WORK, b"", "2"))
    assert [d.body for d in await inbox.take(3)] == [b"before", body, b""]


async def test_headers_arrive_as_they_were(broker: Broker) -> None:
    headers = {"x-text": 'grüße "quoted" \\ \r\n\t', "x-empty": "", "x-long": "0" * 5000}
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    await broker.publish(Outgoing(WORK, b"", "a", headers=headers))
    assert headers.items() <= dict((await inbox.next()).headers).items()


async def test_a_delayed_message_arrives_and_not_before_its_delay(broker: Broker) -> None:
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await broker.publish(Outgoing(WORK, b"later", "a", delay_ms=STEP_MS))
    await publish(broker, "b")
    assert [d.message_id for d in await inbox.take(2)] == ["b", "a"]
    assert loop.time() - started >= STEP_MS / 1000 - 0.005  # the clocks differ by their grain


async def test_a_forward_can_delay(broker: Broker) -> None:
    await publish(broker, "a")
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    first = await inbox.next()
    await first.forward([Outgoing(WORK, b"again", "a", delay_ms=STEP_MS)])
    assert (await inbox.next()).body == b"again"


async def test_a_delay_that_is_not_declared_is_an_error(broker: Broker) -> None:
    with pytest.raises(ValueError, match="delay"):
        await broker.publish(Outgoing(WORK, b"", "a", delay_ms=STEP_MS + 1))
    with pytest.raises(ValueError, match="delay"):
        await broker.publish(Outgoing(OTHER, b"", "a", delay_ms=STEP_MS))


async def test_a_thousand_publishes_at_once_are_all_confirmed(broker: Broker) -> None:
    names = [f"{number}" for number in range(1000)]
    await publish(broker, *names)
    seen: list[str] = []
    complete = asyncio.Event()

    def handle(delivery: Delivery) -> None:
        seen.append(delivery.message_id)
        delivery.ack()
        if len(seen) == len(names):
            complete.set()

    broker.consume(WORK, 100, handle)
    await asyncio.wait_for(complete.wait(), PATIENCE)
    assert sorted(seen) == sorted(names)


async def test_one_bad_publish_among_many_fails_alone(broker: Broker) -> None:
    queues = [WORK] * 20 + ["missing"] + [WORK] * 20
    futures = [broker.publish(Outgoing(queue, b"", f"{n}")) for n, queue in enumerate(queues)]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [isinstance(result, Unroutable) for result in results].count(True) == 1
    assert results.count(None) == 40
    await until_depths(broker, work=40)


async def test_the_topology_may_be_declared_twice(harness: Harness) -> None:
    first = await harness.open()
    await publish(first, "a")
    second = await harness.open()
    await publish(second, "b")
    await until_depths(second, work=2)


async def test_a_changed_retry_schedule_strands_nothing(harness: Harness) -> None:
    before = await harness.open(small_topology(STEP_MS))
    await before.publish(Outgoing(WORK, b"", "a", delay_ms=STEP_MS))
    await before.close()
    after = await harness.open(small_topology(STEP_MS * 2))
    inbox = Inbox()
    after.consume(WORK, 10, inbox)
    assert (await inbox.next()).message_id == "a"
