"""Shows how many workers would be useful: looks at the load from time to time, beside the work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from services.delivery.demand import Load, useful_workers
from shared import metrics

EVERY = 15.0
"""Seconds from one look to the next: how busy we are is the mean of so long."""


class Usefulness:
    """Keeps the gauge.

    `loads` tells what each partition is to this worker, of which `worked` seconds of the loop were
    work. `most` connections it may have. `clock` are monotonic seconds, `cpu` those of the
    processor that the process has used.
    """

    def __init__(
        self,
        loads: Callable[[], Collection[Load]],
        worked: Callable[[], float],
        most: int,
        lanes: Collection[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._loads = loads
        self._worked = worked
        self._most = most
        self._lanes = lanes
        self._clock = clock
        self._cpu = cpu
        self._last = self._now()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look, and go on."""
        self.look()
        self._timer = asyncio.get_running_loop().call_later(EVERY, self.start)

    def stop(self) -> None:
        """Look no more, and tell no old number."""
        if self._timer is not None:
            self._timer.cancel()
        metrics.useful_workers.replace({})

    def look(self) -> None:
        """Once."""
        useful = useful_workers(self._loads(), self._most, self._busy(), self._lanes)
        metrics.useful_workers.replace(useful)

    def _now(self) -> tuple[float, float, float]:
        return self._clock(), self._cpu(), self._worked()

    def _busy(self) -> float:
        """The share of time at work: as the processor tells, or the loop.

        The loop also knows of the time that others took from us while we had work.
        """
        now, last = self._now(), self._last
        self._last = now
        passed, used, worked = (new - old for new, old in zip(now, last, strict=True))
        return min(1.0, max(used, worked) / passed) if passed > 0 else 0.0
