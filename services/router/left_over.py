"""Queues of former plans (a lane is gone, partitions are fewer): nothing that lies there stays.

Their jobs go back through `DUE` and are routed anew under the present plan. The short delay is for
the minutes in which routers of two plans run: each takes the other's queues for left over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial

from shared import metrics
from shared.broker.interface import Broker, Consumer, Delivery, Outgoing, Unavailable
from shared.broker.topology import DUE, WAIT_STEPS_MS
from shared.logs import get_logger, log_detail
from shared.messages.model import Event

RETRY = 1.0
"""Seconds until a broker that could not tell is asked again."""


class LeftOvers:
    """Looks for such queues every `pause` seconds and empties them."""

    def __init__(
        self,
        broker: Broker,
        prefetch: int,
        pause: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._prefetch = prefetch
        self._pause = pause
        self._consumers: dict[str, Consumer] = {}
        self._moving: set[asyncio.Future[None]] = set()
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look, at once."""
        self._looking = asyncio.ensure_future(self._look())

    def serves(self, queue: str) -> bool:
        """Whether this queue is being emptied."""
        return queue in self._consumers

    async def stop(self) -> None:
        """Take nothing more; what is under way ends."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self._serve(())
        while self._moving:
            await asyncio.wait(self._moving)

    async def _look(self) -> None:
        while True:
            try:
                names = await self._broker.left_over()
            except Unavailable:
                await asyncio.sleep(min(RETRY, self._pause))
            else:
                await self._serve(names)
                await asyncio.sleep(self._pause)

    async def _serve(self, names: Iterable[str]) -> None:
        wanted = set(names)
        for name in wanted - self._consumers.keys():
            get_logger().info("queue of a former plan", queue=name)
            self._consumers[name] = self._broker.consume(name, self._prefetch, self._move)
        for name in self._consumers.keys() - wanted:
            await self._consumers.pop(name).stop()

    def _move(self, delivery: Delivery) -> None:
        metrics.in_flight.inc()
        again = Outgoing(DUE, delivery.body, delivery.message_id, delay_ms=WAIT_STEPS_MS[0])
        # custody: the job is durable on its way to the router before it leaves the old queue.
        moved = delivery.forward([again], lasting=False)
        self._moving.add(moved)
        moved.add_done_callback(partial(self._moved, delivery.message_id))

    def _moved(self, message_id: str, moved: asyncio.Future[None]) -> None:
        self._moving.discard(moved)
        metrics.in_flight.dec()
        # Else the broker delivers it again.
        if not moved.cancelled() and moved.exception() is None:
            log_detail(Event("given_back", self._clock(), "", message_id, reason="left_over"))
