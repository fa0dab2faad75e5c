"""The end of a consumption and of a broker: what is settled stays settled, the rest comes again."""

from __future__ import annotations

import asyncio

import pytest

from shared.broker.interface import (
    Broker,
    Outgoing,
    Unavailable,
)
from tests.conformance.harness import (
    OTHER,
    PATIENCE,
    WORK,
    Harness,
    Inbox,
    publish,
    until_depths,
)


async def test_a_stopped_consumer_is_not_called_and_can_still_settle(broker: Broker) -> None:
    await publish(broker, "a", "b")
    inbox, after = Inbox(), Inbox()
    consumer = broker.consume(WORK, 10, inbox)
    first, second = await inbox.take(2)
    await consumer.stop()
    await publish(broker, "c")
    first.ack()
    second.release()
    await until_depths(broker, work=2)
    assert inbox.arrived.empty()
    broker.consume(WORK, 10, after)
    assert {delivery.message_id for delivery in await after.take(2)} == {"b", "c"}


async def test_a_closing_broker_gives_back_what_is_unsettled(harness: Harness) -> None:
    broker = await harness.open()
    await publish(broker, "a", "b", "c")
    inbox = Inbox()
    broker.consume(WORK, 2, inbox)
    await inbox.take(2)
    await broker.close()
    again = Inbox()
    (await harness.open()).consume(WORK, 10, again)
    assert {delivery.message_id for delivery in await again.take(3)} == {"a", "b", "c"}


async def test_settlements_before_a_close_are_kept(harness: Harness) -> None:
    broker = await harness.open()
    await publish(broker, "a", "b")
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    first, second = await inbox.take(2)
    first.ack()
    moved = second.forward([Outgoing(OTHER, b"2", "b2")])
    await broker.close()
    await moved
    await until_depths(await harness.open(), work=0, other=1)


@pytest.mark.parametrize("left", [0, 1])
async def test_settlements_between_stop_and_close_are_kept_in_whatever_order(
    harness: Harness, left: int
) -> None:
    broker = await harness.open()
    inbox = Inbox()
    names = [str(number) for number in range(60)]
    await publish(broker, *names)
    consumer = broker.consume(WORK, len(names), inbox)
    deliveries = await inbox.take(len(names))
    await consumer.stop()
    for delivery in reversed(deliveries[left:]):
        delivery.ack()
        await asyncio.sleep(0)
    await broker.close()
    await until_depths(await harness.open(), work=left)


async def test_verbs_after_the_close_do_nothing(harness: Harness) -> None:
    broker = await harness.open()
    await publish(broker, "a")
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    delivery = await inbox.next()
    await broker.close()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(delivery.forward([Outgoing(OTHER, b"", "late")]), PATIENCE)
    delivery.ack()
    await until_depths(await harness.open(), work=1, other=0)
