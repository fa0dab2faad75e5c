"""Mail that can wait is handled a little at a time, so that it does not hold up the other mail.

A consumer hands over all it may hold at once. That many jobs are many milliseconds of work in this
process, and in the broker: so they wait here for their portion.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Collection

from shared.broker.handing import hand
from shared.broker.interface import Delivery, Handler
from shared.broker.pacing import Pace


class Foremost:
    """The handler of the mail that goes first: it notes when some came."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._now = asyncio.get_running_loop().time
        self._last = -math.inf

    def handle(self, delivery: Delivery) -> None:
        """Handle it, at once."""
        self._last = self._now()
        self._handler(delivery)

    def silence(self) -> float:
        """Seconds since the last one came."""
        return self._now() - self._last


class Portions:
    """The handler of the mail that can wait for `foremost`."""

    def __init__(self, handler: Handler, pace: Pace, foremost: Foremost) -> None:
        self._handler = handler
        self._pace = pace
        self._foremost = foremost
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Delivery] = deque()
        self._next: asyncio.Handle | None = None
        self._not_before = 0.0

    def handle(self, delivery: Delivery) -> None:
        """Handle it when its turn has come."""
        self._waiting.append(delivery)
        if self._next is None:
            self._go_on()

    def release(self, queues: Collection[str]) -> None:
        """Give back what came from these queues and still waits: their consumers were stopped."""
        waiting, self._waiting = self._waiting, deque()
        for delivery in waiting:
            if delivery.queue in queues:
                delivery.release()
            else:
                self._waiting.append(delivery)

    def heads(self) -> list[Delivery]:
        """Of each queue the delivery that has waited longest."""
        heads: dict[str, Delivery] = {}
        for delivery in self._waiting:
            heads.setdefault(delivery.queue, delivery)
        return list(heads.values())

    def _go_on(self) -> None:
        if self._not_before > self._loop.time():
            self._next = self._loop.call_at(self._not_before, self._work)
        else:
            # In the next turn of the loop: what has come meanwhile is read before.
            self._next = self._loop.call_soon(self._work)

    def _work(self) -> None:
        for _ in range(min(self._pace.portion, len(self._waiting))):
            hand(self._handler, self._waiting.popleft())
        self._not_before = self._loop.time() + self._pace.wait(self._foremost.silence())
        self._next = None
        if self._waiting:
            self._go_on()
