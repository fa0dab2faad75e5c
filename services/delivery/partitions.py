"""The partitions that this worker serves: their consumers, and taking and giving up (`Holder`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from services.delivery.holding import Partition, Prefetch, Trace
from services.delivery.placing import queues_of
from services.delivery.pool import Pool
from shared.broker.interface import Broker, Consumer, Delivery, Handler
from shared.broker.pacing import Pace
from shared.broker.portions import Foremost, Portions
from shared.messages.model import MessageClass
from shared.metrics import KINDS

LEAST_PREFETCH = 128
"""Jobs of one queue, unless less is configured: so many transactions may be under way at once."""
AGAIN = Pace(portion=8, pause=0.005)
"""For jobs that come again, while others come for the first time."""


class Partitions:
    """See `services.delivery.holding.Holder`."""

    def __init__(self, broker: Broker, pool: Pool, handler: Handler, prefetch: Prefetch) -> None:
        self._broker = broker
        self._pool = pool
        self._prefetch = prefetch
        self._first = Foremost(handler)
        self._again = Portions(handler, AGAIN, self._first)
        self._consumers: dict[Partition, list[Consumer]] = {}

    def take(self, partition: Partition, *, fresh: bool, traces: Sequence[Trace] = ()) -> None:
        """See `Holder.take`."""
        self._pool.take(partition, self._prefetch, fresh=fresh, traces=traces)
        consume = self._broker.consume
        first, again = (queues_of(partition, again=again) for again in (False, True))
        self._consumers[partition] = [
            *(consume(queue, self._prefetch.first, self._first.handle) for queue in first),
            *(consume(queue, self._prefetch.again, self._again.handle) for queue in again),
        ]

    async def give_up(self, partition: Partition) -> Sequence[Trace]:
        """See `Holder.give_up`."""
        consumers = self._consumers.pop(partition)
        self._pool.pause(partition)
        # Before anything is released, or it would come here again.
        await asyncio.gather(*(consumer.stop() for consumer in consumers))
        self._again.release(queues_of(partition, again=True))
        return self._pool.give_up(partition)

    def served(self) -> Mapping[str, tuple[str, str, str]]:
        """The queues that are served now, each with its lane, class and kind."""
        return {
            queue: (partition.lane, message_class.value, kind)
            for partition in self._consumers
            for again, kind in enumerate(KINDS)
            for queue, message_class in zip(
                queues_of(partition, again=bool(again)), MessageClass, strict=True
            )
        }

    def not_looked_at(self) -> Sequence[Delivery]:
        """The first of each queue that was handed out and waits here to be looked at."""
        return self._again.heads()

    def remains(self) -> Sequence[Trace]:
        """See `Holder.remains`."""
        return self._pool.remains()

    def heed(self, remains: Sequence[Trace]) -> None:
        """See `Holder.heed`."""
        self._pool.heed(remains)


def queue_prefetch(total: int, partitions: int) -> Prefetch:
    """The prefetch of each queue, of a class's `total` for that many partitions.

    Half as many come again: they are not what a partition is to be filled with.
    """
    first = max(min(LEAST_PREFETCH, total), total // partitions)
    return Prefetch(first, (first + 1) // 2)
