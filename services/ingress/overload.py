"""When this process takes no more than it has: the loop lags, or memory passes a limit.

New sessions and new mails are then put off with 421 and 451; what has begun goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared import metrics
from shared.logs import get_logger

SAMPLE_SECONDS = 0.25
LAGS = 3
"""Looks of which most must be late: one long step of ours is no overload."""
CALM_LAG, CALM_MEMORY = 0.5, 0.9
"""Parts of the limits that must not be passed for it to be over."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """Seconds by which the loop may be late; octets of resident memory, 0 for no limit."""

    lag: float
    memory: int


def usual(lags: Sequence[float]) -> float:
    """The lag that most looks have passed or reached (pure): two of three."""
    return sorted(lags)[len(lags) // 2]


def is_overloaded(before: bool, lag: float, memory: int, limits: LoadLimits) -> bool:
    """Whether it is too much now, as it was or was not `before` (pure)."""
    lag_limit, memory_limit = limits.lag, float(limits.memory)
    if before:
        lag_limit, memory_limit = lag_limit * CALM_LAG, memory_limit * CALM_MEMORY
    return lag > lag_limit or bool(limits.memory and memory > memory_limit)


def resident_memory() -> int:
    """Octets that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


class Overload:
    """Looks four times a second. `active` tells whether it is too much."""

    def __init__(self, limits: LoadLimits, memory: Callable[[], int] = resident_memory) -> None:
        self._limits = limits
        self._memory = memory
        self._timer: asyncio.TimerHandle | None = None
        self._lags = deque([0.0] * LAGS, LAGS)
        self.active = False

    def set_limits(self, limits: LoadLimits) -> None:
        """From the next look on these hold."""
        self._limits = limits

    def start(self) -> None:
        """Begin to look."""
        loop = asyncio.get_running_loop()
        due = loop.time() + SAMPLE_SECONDS
        self._timer = loop.call_at(due, self._sample, due)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _sample(self, due: float) -> None:
        self._lags.append(asyncio.get_running_loop().time() - due)
        lag = usual(self._lags)
        memory = self._memory()
        active = is_overloaded(self.active, lag, memory, self._limits)
        if active is not self.active:
            self.active = active
            metrics.ingress_overloaded.set(active)
            what = "overloaded: mail is put off" if active else "no longer overloaded"
            get_logger().warning(what, loop_lag_seconds=round(lag, 3), memory=memory)
        self.start()
