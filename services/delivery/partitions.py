"""The partitions that this worker serves: their consumers, and taking and giving up (`Holder`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.delivery.holding import Partition, Trace
from services.delivery.placing import queues_of
from services.delivery.pool import Pool
from shared.broker.interface import Broker, Consumer, Handler

LEAST_PREFETCH = 128
"""Jobs of one queue, unless less is configured: so many transactions may be under way at once."""


class Partitions:
    """See `services.delivery.holding.Holder`. `prefetch` is that of each queue."""

    def __init__(self, broker: Broker, pool: Pool, handler: Handler, prefetch: int) -> None:
        self._broker = broker
        self._pool = pool
        self._handler = handler
        self._prefetch = prefetch
        self._consumers: dict[Partition, list[Consumer]] = {}

    def take(self, partition: Partition, *, fresh: bool, traces: Sequence[Trace] = ()) -> None:
        """See `Holder.take`."""
        self._pool.take(partition, self._prefetch, fresh=fresh, traces=traces)
        self._consumers[partition] = [
            self._broker.consume(queue, self._prefetch, self._handler)
            for queue in queues_of(partition)
        ]

    async def give_up(self, partition: Partition) -> Sequence[Trace]:
        """See `Holder.give_up`."""
        consumers = self._consumers.pop(partition)
        self._pool.pause(partition)
        # Before anything is released, or it would come here again.
        await asyncio.gather(*(consumer.stop() for consumer in consumers))
        return self._pool.give_up(partition)

    def remains(self) -> Sequence[Trace]:
        """See `Holder.remains`."""
        return self._pool.remains()

    def heed(self, remains: Sequence[Trace]) -> None:
        """See `Holder.heed`."""
        self._pool.heed(remains)


def queue_prefetch(total: int, partitions: int) -> int:
    """The prefetch of each queue, of a class's `total` for that many partitions."""
    return max(min(LEAST_PREFETCH, total), total // partitions)
