"""How fast a site may be sent mail (pure): messages a second, and connections in any minute.

Time is monotonic seconds, passed in.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.delivery.holding import SLOT_SECONDS

SLACK = 0.005
"""Seconds that a late timer may make up for: below 200 messages a second, not even one."""
SLOTS = int(60 / SLOT_SECONDS)
"""A minute has so many slots, and touches one more, wherever it begins."""


class Pace:
    """Messages evenly spread over time (GCRA with a burst of one). `next` is when one may go.

    In any w seconds no more than rate * (w + SLACK) + 1 go.
    """

    __slots__ = ("interval", "next")

    def __init__(self, rate: float, start: float) -> None:
        self.interval = 1 / rate
        self.next = start

    def spend(self, now: float) -> None:
        """One goes now."""
        earliest = now - SLACK
        self.next = max(self.next, earliest) + self.interval

    def change(self, rate: float, now: float) -> None:
        """Another rate, from now on."""
        self.interval = 1 / rate
        self.next = min(self.next, now + self.interval)


class Window:
    """Connections of the last minute, in slots, by the time at which opening them was over.

    `total` is how many there were when it was last used or changed.

    Those that are being opened are counted beside it by who uses it: they were begun before, and
    will be recorded later, so no minute has more than the limit, wherever it begins.
    """

    __slots__ = ("_slots", "total")

    def __init__(self) -> None:
        self._slots: list[tuple[int, int]] = []
        self.total = 0

    def used(self, now: float) -> int:
        """How many count at this time."""
        oldest = int(now // SLOT_SECONDS) - SLOTS
        while self._slots and self._slots[0][0] < oldest:
            self.total -= self._slots.pop(0)[1]
        return self.total

    def record(self, now: float, count: int = 1) -> None:
        """So many were made until now."""
        self._add(int(now // SLOT_SECONDS), count)

    def changes_at(self) -> float:
        """When the oldest no longer count. There is one."""
        return (self._slots[0][0] + SLOTS + 1) * SLOT_SECONDS

    def assume(self, limit: int, now: float) -> None:
        """As if the limit had been used up evenly within the last minute."""
        newest = int(now // SLOT_SECONDS)
        for age in range(SLOTS - 1, -1, -1):
            self._add(newest - age, limit * (age + 1) // SLOTS - limit * age // SLOTS)

    def adopt(self, opened: Sequence[int], now: float) -> None:
        """What another worker counted, the youngest slot first.

        Its slots begin at other times than ours: each counts as if it were one younger.
        """
        newest = int(now // SLOT_SECONDS)
        for age, count in reversed(list(enumerate(opened[: SLOTS + 1]))):
            self._add(newest - max(0, age - 1), count)

    def counts(self, now: float) -> tuple[int, ...]:
        """What another worker should know, the youngest slot first."""
        if not self.used(now):
            return ()
        newest, oldest = int(now // SLOT_SECONDS), self._slots[0][0]
        known = dict(self._slots)
        return tuple(known.get(slot, 0) for slot in range(newest, oldest - 1, -1))

    def _add(self, slot: int, count: int) -> None:
        if not count:
            return
        self.total += count
        if self._slots and self._slots[-1][0] >= slot:
            slot, before = self._slots.pop()
            count += before
        self._slots.append((slot, count))
