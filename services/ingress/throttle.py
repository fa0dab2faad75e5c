"""How long the answer to a wrong password waits (pure; the time is passed in).

Failures are counted for each client address and each user name, so that neither many names from
one place nor many places for one name are quick. Only answers to wrong passwords wait: nobody
can lock a user out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

FIRST_DELAY = 0.25
LONGEST_DELAY = 8.0
FORGET_AFTER = 900.0
"""Seconds after the last failure until all of them are forgotten."""
MOST_KEYS = 10_000
"""Addresses and names that are remembered; the longest unseen go first."""


class Throttle:
    """Counts failures by key. `first_delay` is in seconds and doubles with each failure."""

    def __init__(self, first_delay: float = FIRST_DELAY) -> None:
        self._first_delay = first_delay
        self._failures: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def failed(self, *keys: Hashable, now: float) -> float:
        """Count one failure of each key; returns the seconds that the answer shall wait."""
        count = max(self._count(key, now) for key in keys)
        return min(self._first_delay * 2.0 ** min(count - 1, 20), LONGEST_DELAY)

    def succeeded(self, *keys: Hashable) -> None:
        """Forget the failures of these keys."""
        for key in keys:
            self._failures.pop(key, None)

    def _count(self, key: Hashable, now: float) -> int:
        count, last = self._failures.pop(key, (0, now))
        count = 1 if now - last > FORGET_AFTER else count + 1
        self._failures[key] = (count, now)
        if len(self._failures) > MOST_KEYS:
            self._failures.popitem(last=False)
        return count
