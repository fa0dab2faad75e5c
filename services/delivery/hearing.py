"""How well this worker hears (pure): by its own announcements, which come back to it as well.

`clock` counts the seconds in which it was awake: it stands still while this process was not called
in time, for then what others said may wait unread.
"""

from __future__ import annotations

from math import inf

UNHEARD = 64
"""Announcements of which the time is kept until they come back."""


class Hearing:
    """What one worker can say of its own ears. `slack` seconds of being late count as in time."""

    def __init__(self, slack: float, now: float) -> None:
        self.clock = 0.0
        self.proof = -inf
        """The clock when that announcement was made which was the newest to come back."""
        self.open = False
        """Whether the broker lets anything through."""
        self._slack = slack
        self._now = now
        self._sent: dict[int, float] = {}

    def goes_on(self, now: float, expected: float, *, open: bool) -> bool:  # noqa: A002
        """Time goes on to `now`; a call had been due at `expected`. Whether it has just opened."""
        self.clock += max(0.0, min(now, expected + self._slack) - self._now)
        opened = open and not self.open
        self.open, self._now = open, now
        return opened

    def says(self, sequence: int) -> None:
        """An announcement is made."""
        self._sent[sequence] = self.clock
        if len(self._sent) > UNHEARD:
            self._sent.pop(next(iter(self._sent)))

    def hears_itself(self, sequence: int) -> None:
        """It has come back. One that is late proves no more than an early one."""
        self.proof = max(self.proof, self._sent.get(sequence, -inf))
        self._sent = {number: at for number, at in self._sent.items() if number > sequence}
