import asyncio

import pytest

from shared.broker.interface import (
    Delivery,
    Handler,
    Outgoing,
    ParkReason,
    Refused,
    Unavailable,
    Unroutable,
)
from shared.broker.topology import ACCEPTED, DUE, PARKED, build_topology, lane_queue
from tests.support.memory_broker import MemoryBroker

MAIL = Outgoing(ACCEPTED, b"body", "m1")


async def first(broker: MemoryBroker, queue: str) -> Delivery:
    taken: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
    consumer = broker.consume(queue, 1, taken.set_result)
    delivery = await asyncio.wait_for(taken, 1)
    await consumer.stop()
    return delivery


async def test_a_publish_is_confirmed_on_a_later_turn_and_can_be_consumed() -> None:
    broker = MemoryBroker()
    confirm = broker.publish(MAIL)
    assert not confirm.done()
    await confirm
    delivery = await first(broker, ACCEPTED)
    assert (delivery.body, delivery.message_id, delivery.attempts) == (b"body", "m1", 0)
    delivery.ack()
    assert broker.waiting(ACCEPTED) == []
    assert broker.published == [MAIL]


async def test_forward_publishes_and_then_settles() -> None:
    broker = MemoryBroker()
    await broker.publish(MAIL)
    delivery = await first(broker, ACCEPTED)
    await delivery.forward([Outgoing(DUE, b"next", "m2")])
    assert [message.message_id for message in broker.waiting(DUE)] == ["m2"]
    await broker.close()
    assert broker.waiting(ACCEPTED) == []


async def test_what_is_not_settled_comes_back_when_the_broker_closes() -> None:
    broker = MemoryBroker()
    await broker.publish(MAIL)
    await first(broker, ACCEPTED)
    await broker.close()
    assert broker.waiting(ACCEPTED) == [MAIL]


async def test_failed_deliveries_are_counted_and_released_ones_are_not() -> None:
    broker = MemoryBroker()
    await broker.publish(MAIL)
    (await first(broker, ACCEPTED)).failed()
    (await first(broker, ACCEPTED)).release()
    assert (await first(broker, ACCEPTED)).attempts == 1


async def test_a_rejected_message_is_parked_with_its_reason() -> None:
    broker = MemoryBroker()
    await broker.publish(MAIL)
    await (await first(broker, ACCEPTED)).reject(ParkReason.UNDECODABLE)
    (parked,) = broker.waiting(PARKED)
    assert parked.headers["x-postroad-reason"] == "undecodable"


async def test_faults_can_be_asked_for() -> None:
    broker = MemoryBroker()
    broker.fail(Refused("full"))
    with pytest.raises(Refused):
        await broker.publish(MAIL)
    broker.resume()
    with pytest.raises(Unroutable):
        await broker.publish(Outgoing("nowhere", b"", "m"))
    broker.stall()
    confirm = broker.publish(MAIL)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not confirm.done()
    await broker.close()
    with pytest.raises(Unavailable):
        await confirm


async def test_a_delayed_message_becomes_visible_when_its_delay_is_over() -> None:
    broker = MemoryBroker()
    await broker.publish(Outgoing(DUE, b"job", "j1", delay_ms=1000))
    assert broker.waiting(DUE) == []
    assert len(broker.delayed()) == 1
    broker.elapse()
    assert len(broker.waiting(DUE)) == 1


async def test_the_prefetch_bounds_what_a_consumer_holds() -> None:
    broker = MemoryBroker()
    held: list[Delivery] = []
    broker.consume(ACCEPTED, 2, held.append)
    await asyncio.gather(*(broker.publish(MAIL) for _ in range(3)))
    assert len(held) == 2
    held[0].ack()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(held) == 3


async def test_brokers_beside_each_other_share_queues_and_announcements() -> None:
    broker = MemoryBroker()
    other = broker.beside()
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    assert not other.hearing
    listener = other.listen(heard.put_nowait)
    assert (broker.hearing, other.hearing) == (False, True)
    broker.announce(b"a")
    assert await asyncio.wait_for(heard.get(), 1) == b"a"
    await broker.publish(MAIL)
    assert (await first(other, ACCEPTED)).message_id == "m1"
    other.block()
    assert not other.hearing
    await listener.stop()
    broker.announce(b"b")
    await asyncio.sleep(0)
    assert heard.empty()


async def test_one_consumer_of_a_lane_is_served_until_it_stops_or_its_broker_closes() -> None:
    broker = MemoryBroker()
    others = [broker.beside(), broker.beside()]
    queue = lane_queue("default", 0, "bulk")
    seen: list[list[str]] = [[], [], []]

    def into(mine: list[str]) -> Handler:
        return lambda delivery: mine.append(delivery.message_id)

    brokers = (broker, *others)
    consumers = [
        one.consume(queue, 10, into(mine)) for one, mine in zip(brokers, seen, strict=True)
    ]
    await broker.publish(Outgoing(queue, b"", "a"))
    await consumers[0].stop()
    await broker.publish(Outgoing(queue, b"", "b"))
    await others[0].close()
    await broker.publish(Outgoing(queue, b"", "c"))
    await asyncio.sleep(0)
    assert seen == [["a"], ["b"], ["b", "c"]]


async def test_queues_of_a_former_plan_are_left_over() -> None:
    former = MemoryBroker(build_topology([1000], {"default": 2}))
    queue = lane_queue("default", 1, "bulk")
    await former.publish(Outgoing(queue, b"", "a"))
    broker = former.beside(build_topology([1000], {"default": 1}))
    assert queue in await broker.left_over()
    assert (await first(broker, queue)).message_id == "a"
    assert await former.left_over() == []
