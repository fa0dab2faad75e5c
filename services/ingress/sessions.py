"""All open sessions of the process: their number, their idle time, their end.

Idle time is measured by one sweep over all of them every few seconds instead of a timer for each
command. A session notes the time of the last sweep when something useful came from its client.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from shared import metrics

LONGEST_SWEEP = 5.0
"""Seconds between two looks at all sessions, so also how late one may be ended."""


class Session(Protocol):
    """What is asked of an open session."""

    seen: float

    def time_out(self) -> None:
        """The client was idle for too long, or too slow."""

    def is_slow(self, now: float) -> bool:
        """Whether what is under way takes too long; asked from time to time."""

    def drain(self, patience_over: bool) -> None:
        """End now if nothing is under way, else after the transaction.

        With `patience_over`, end now unless a mail of the session is being stored.
        """


class Sessions:
    """Open sessions, at most `limit`. `timeout` is the idle time in seconds."""

    def __init__(self, limit: int, timeout: float) -> None:
        self._limit = limit
        self._timeout = timeout
        self._interval = min(LONGEST_SWEEP, timeout / 10)
        self._open: set[Session] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._timer: asyncio.TimerHandle | None = None
        self.draining = False
        self.now = 0.0
        """The loop's time at the last sweep."""

    def __len__(self) -> int:
        return len(self._open)

    def start(self) -> None:
        """Begin to sweep."""
        self._schedule()

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, session: Session) -> bool:
        """Count a new session; False if there are too many."""
        if len(self._open) >= self._limit:
            return False
        session.seen = self.now
        self._open.add(session)
        self._none_open.clear()
        metrics.sessions.inc()
        return True

    def remove(self, session: Session) -> None:
        """The session has ended; said more than once, it counts once."""
        if session in self._open:
            self._open.remove(session)
            metrics.sessions.dec()
        if not self._open:
            self._none_open.set()

    async def drain(self, patience: float) -> None:
        """End every session, each at its next good moment; returns when none is left.

        After `patience` seconds transactions are cut off too: their clients have no 250 and will
        send again.
        """
        self.draining = True
        cut = asyncio.get_running_loop().call_later(patience, self._drain_all, True)
        self._drain_all(False)
        await self._none_open.wait()
        cut.cancel()

    def _drain_all(self, patience_over: bool) -> None:
        for session in tuple(self._open):
            session.drain(patience_over)

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        self._timer = loop.call_later(self._interval, self._sweep)

    def _sweep(self) -> None:
        self._schedule()
        # `seen` may be older than what was seen by one interval; nobody is ended early.
        oldest = self.now - self._timeout - self._interval
        for session in tuple(self._open):
            if session.seen < oldest or session.is_slow(self.now):
                session.time_out()
