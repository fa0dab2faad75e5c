"""The consumers of a partition."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from services.delivery.holding import Partition, Prefetch, Trace
from services.delivery.partitions import LEAST_PREFETCH, Partitions, queue_prefetch
from services.delivery.pool import Pool
from shared.broker.interface import Delivery, Outgoing
from shared.broker.topology import lane_queue
from tests.support.memory_broker import MemoryBroker

PARTITION = Partition("default", 0)
FIRST = lane_queue(*PARTITION, "bulk")
AGAIN = lane_queue(*PARTITION, "bulk", again=True)


class QuietPool:
    """In place of the pool: nothing is under way."""

    def take(self, *_: object, fresh: bool, traces: Sequence[Trace]) -> None:
        pass

    def pause(self, partition: Partition) -> None:
        pass

    def give_up(self, partition: Partition) -> Sequence[Trace]:
        return ()


async def test_what_waits_for_its_portion_goes_back_with_the_partition() -> None:
    broker = MemoryBroker()
    handled: list[str] = []

    def handle(delivery: Delivery) -> None:
        handled.append(delivery.message_id)
        delivery.ack()

    partitions = Partitions(broker, cast("Pool", QuietPool()), handle, Prefetch(100, 50))
    names = [f"job{number}" for number in range(50)]
    await asyncio.gather(*(broker.publish(Outgoing(AGAIN, b"", name)) for name in names))
    await broker.publish(Outgoing(FIRST, b"", "first"))
    partitions.take(PARTITION, fresh=True)
    while len(handled) < 2:
        await asyncio.sleep(0)
    await partitions.give_up(PARTITION)
    assert handled[0] == "first"
    waiting = [message.message_id for message in broker.waiting(AGAIN)]
    assert waiting
    assert sorted([*handled[1:], *waiting]) == sorted(names)


@pytest.mark.parametrize(
    ("total", "partitions", "prefetch"),
    [
        (500, 1, Prefetch(500, 250)),
        (500, 16, Prefetch(LEAST_PREFETCH, LEAST_PREFETCH // 2)),
        (1, 16, Prefetch(1, 1)),
    ],
)
def test_half_as_many_are_held_that_come_again(
    total: int, partitions: int, prefetch: Prefetch
) -> None:
    assert queue_prefetch(total, partitions) == prefetch
