"""Which jobs nobody waits for when they are sent away (pure): they take the slow way back.

So many jobs of one site may be sent away that they would stand before those of all others when
they are due. What is bounded is how many of one site come back the quick way.
"""

from __future__ import annotations

from shared.broker.topology import WAIT_STEPS_MS

MANY = 100
"""Jobs of one site that may be sent away at once and still come back in time,"""
A_SECOND = 2.0
"""and so many more a second."""
FAR = 2 * WAIT_STEPS_MS[-1] / 1000
"""Seconds: a job whose turn is further away may be late by the longest wait step."""


def is_far(turn: float, now: float) -> bool:
    """Whether a job with that turn may come late and have its turn all the same."""
    return turn - now > FAR


class Crowd:
    """The jobs of one site that need not try, since nobody answers there. In monotonic seconds."""

    __slots__ = ("_at", "_level")

    def __init__(self) -> None:
        self._level = 0.0
        self._at = 0.0

    def grows(self, now: float) -> bool:
        """One more is sent away: whether there are so many that nobody waits for this one."""
        self._level = max(0.0, self._level - (now - self._at) * A_SECOND)
        self._at = now
        if self._level >= MANY:
            return True
        self._level += 1
        return False
