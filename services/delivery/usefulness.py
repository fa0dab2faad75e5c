"""Shows how many workers would be useful: looks at the load from time to time, beside the work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path

from services.delivery.demand import Load, useful_workers
from shared import metrics

EVERY = 15.0
"""Seconds from one look to the next: how busy we are is the mean of so long."""


SCHEDULED = Path("/proc/thread-self/schedstat")
"""What Linux knows of a thread: nanoseconds that it ran, and that it waited to run."""


def waited(path: Path = SCHEDULED) -> float:
    """Seconds that this thread had work and no processor; 0 where the system does not tell."""
    try:
        return int(path.read_text("ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class Usefulness:
    """Keeps the gauge.

    `loads` tells what each partition is to this worker, which may have `most` connections. In
    seconds: `clock` is monotonic, `cpu` what the process has used of the processor, and `waited`
    what the loop's thread has waited for it.
    """

    def __init__(
        self,
        loads: Callable[[], Collection[Load]],
        most: int,
        lanes: Collection[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
        waited: Callable[[], float] = waited,
    ) -> None:
        self._loads = loads
        self._most = most
        self._lanes = lanes
        self._clock = clock
        self._cpu = cpu
        self._waited = waited
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

    def _now(self) -> tuple[float, float]:
        return self._clock(), self._cpu() + self._waited()

    def _busy(self) -> float:
        """The share of time at work, or kept from it by a limit of the CPU or by others."""
        now, last = self._now(), self._last
        self._last = now
        passed = now[0] - last[0]
        return min(1.0, (now[1] - last[1]) / passed) if passed > 0 else 0.0
