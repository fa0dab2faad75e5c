"""All open sessions of the process: their number, their idle time, their end.

Strangers, who have not logged in and may not relay, never take a part that is kept for others, and
when there is no room the stranger that has been idle for longest makes some.

Idle time is measured by one sweep over all of them every few seconds instead of a timer for each
command. A session notes the time of the last sweep when something useful came from its client.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from shared import metrics
from shared.smtp.server_replies import IDLE_TOO_LONG, ServerReply

LONGEST_SWEEP = 5.0
"""Seconds between two looks at all sessions, so also how late one may be ended."""


class Session(Protocol):
    """What is asked of an open session."""

    seen: float

    def time_out(self, reply: ServerReply) -> None:
        """The client was idle for too long, or too slow: end with this."""

    def overdue(self, now: float) -> ServerReply | None:
        """What to say if that which is under way takes too long; asked from time to time."""

    def shed(self) -> bool:
        """End at once: others need the room. Only strangers are asked.

        False while a mail of the session is being stored: its 250 is owed, and it counts on.
        """

    def drain(self, patience_over: bool) -> None:
        """End now if nothing is under way, else after the transaction.

        With `patience_over`, end now unless a mail of the session is being stored.
        """


class Sessions:
    """Open sessions, at most `limit`, `reserved` of them for others than strangers.

    `timeout` is the idle time in seconds.
    """

    def __init__(self, limit: int, timeout: float, reserved: int = 0) -> None:
        self.set_limits(limit, timeout, reserved)
        self._open: set[Session] = set()
        self._waiting = 0
        self._strangers: dict[Session, None] = {}
        self._idlest: list[tuple[float, Session]] = []
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._timer: asyncio.TimerHandle | None = None
        self.draining = False
        self.now = 0.0
        """The loop's time at the last sweep."""

    def __len__(self) -> int:
        return len(self._open)

    def set_limits(self, limit: int, timeout: float, reserved: int) -> None:
        """From now on these hold; nobody is ended for it."""
        self._limit = limit
        self._for_strangers = limit - reserved
        self._timeout = timeout
        self._interval = min(LONGEST_SWEEP, timeout / 10)

    def start(self) -> None:
        """Begin to sweep."""
        self._schedule()

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, session: Session, *, stranger: bool = False, known: bool = False) -> bool:
        """Count a new session; False if there are too many. A `known` stranger may use all room."""
        limited = stranger and not known and len(self._strangers) >= self._for_strangers
        if (limited or self._is_full()) and not self._shed():
            return False
        session.seen = self.now
        self._open.add(session)
        if stranger:
            self._strangers[session] = None
        self._none_open.clear()
        metrics.sessions.inc()
        return True

    def wait(self) -> bool:
        """Count a connection that is not a session yet, until `waited`; False if too many."""
        if self.draining or (self._is_full() and not self._shed()):
            return False
        self._waiting += 1
        return True

    def waited(self) -> None:
        """The connection becomes a session now, or has ended."""
        self._waiting -= 1

    def trust(self, session: Session) -> None:
        """It is a stranger no more."""
        self._strangers.pop(session, None)

    def _is_full(self) -> bool:
        return len(self._open) + self._waiting >= self._limit

    def _shed(self) -> bool:
        """Make room. Sorted once for as many as there are, so that a flood costs little."""
        for sort in (False, True):
            if sort:
                found = sorted(self._strangers, key=lambda session: session.seen)
                self._idlest = [(session.seen, session) for session in reversed(found)]
            while self._idlest:
                seen, idlest = self._idlest.pop()
                if idlest in self._strangers and idlest.seen == seen and idlest.shed():
                    self.remove(idlest)
                    return True
        return False

    def remove(self, session: Session) -> None:
        """The session has ended; said more than once, it counts once."""
        self._strangers.pop(session, None)
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
            reply = session.overdue(self.now)
            if reply is None and session.seen < oldest:
                reply = IDLE_TOO_LONG
            if reply is not None:
                session.time_out(reply)
