"""When a job that cannot start soon may come back (pure).

Each site has a calendar: a job that finds no room reserves the next free turn at the site's rate,
keeps it (`DeliveryJob.turn`) while it goes round through the wait steps, and is let in when its
turn has come, or before if the site would run out of work.
"""

from __future__ import annotations

from shared.broker.topology import WAIT_STEPS_MS

HORIZON = 7 * 24 * 3600.0
"""Seconds: nothing is believed that reserves a later turn."""
_STEPS = tuple((step / 1000, step) for step in reversed(WAIT_STEPS_MS))


def wait_step(seconds: float) -> int:
    """The longest wait step, in milliseconds, that is over by then; at least the shortest."""
    for length, step in _STEPS:
        if length <= seconds:
            return step
    return WAIT_STEPS_MS[0]


class Calendar:
    """The turns of one class of jobs at one site. Times are monotonic seconds.

    `end` is the end of the line; `late` of the line of those whose turn came when there was no
    room, since the site is slower than it was taken to be.
    """

    __slots__ = ("end", "late")

    def __init__(self) -> None:
        self.end = 0.0
        self.late = 0.0

    def is_early(self, turn: float, start: float) -> bool:
        """Whether others come first. `turn` is 0 for a job without one.

        `start` is when the job would start if it were let in.
        """
        if turn > self.end:
            self.end = min(turn, start + HORIZON)
        return (turn or self.end) > start

    def reserve(self, turn: float, start: float, rate: float) -> float:
        """The turn of a job that is not let in; `rate` is the site's, in jobs a second."""
        if turn > start:
            return turn
        if turn:
            self.late = max(self.late, start) + 1 / rate
            return self.late
        self.end = max(self.end, start) + 1 / rate
        return self.end
