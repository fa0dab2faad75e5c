"""How late the event loop is: everything a service does waits that long."""

from __future__ import annotations

import asyncio

from shared import metrics

EVERY = 1.0
"""Seconds from one look to the next."""


class LoopLag:
    """Looks once a second whether a timer comes in time."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._every
        self._timer = loop.call_at(due, self._look, due)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, due: float) -> None:
        metrics.loop_lag_seconds.observe(max(asyncio.get_running_loop().time() - due, 0.0))
        self.start()
