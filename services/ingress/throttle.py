"""What wrong logins cost those who try them (pure; the time is passed in).

Failures are counted by place (an IPv4 address, an IPv6 /64), by account, and by the two together,
over all sessions; each is forgiven after a while. The answer to a wrong one waits longer each time.
A place with too many may try nothing for some minutes, and an account that is guessed at from many
places only from where its owner has logged in before: he is not locked out by others.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from enum import Enum
from typing import Generic, TypeVar

FIRST_DELAY = 0.25
LONGEST_DELAY = 8.0
FORGIVE_SECONDS = 60.0
"""After so many seconds each count is one less."""
MOST_OF_PLACE = 30
MOST_OF_ACCOUNT = 100
MOST_OF_OWNER = 10
"""Failures of an account at a place that is known for it, until it is a place like any other."""
BLOCKED_SECONDS = 300.0
KNOWN_SECONDS = 7 * 86_400.0
"""How long a place is known for an account after the last login from there."""
MOST_KEYS = 10_000
"""Of each kind are remembered; those not seen for longest go first."""

Key = TypeVar("Key", str, bytes, tuple[str, bytes])
_Pair = tuple[str, bytes]


class Verdict(Enum):
    """Whether a login may be tried."""

    TRY = "try"
    ACCOUNT_DEFERRED = "account deferred"
    PLACE_BLOCKED = "place blocked"


class _Table(Generic[Key]):
    """Numbers by key, the least recently changed first. At most `MOST_KEYS`."""

    def __init__(self) -> None:
        self._found: OrderedDict[Key, tuple[float, float]] = OrderedDict()

    def level(self, key: Key, now: float) -> float:
        """The failures that are not forgiven."""
        count, since = self._found.get(key, (0.0, now))
        return max(0.0, count - (now - since) / FORGIVE_SECONDS)

    def add(self, key: Key, amount: float, now: float) -> float:
        """Count more of them, or fewer; returns the level."""
        level = max(0.0, self.level(key, now) + amount)
        self._found.pop(key, None)
        if level:
            self._found[key] = (level, now)
        if len(self._found) > MOST_KEYS:
            self._found.popitem(last=False)
        return level


class _Until(Generic[Key]):
    """Keys for a time, the least recently set first. At most `MOST_KEYS`."""

    def __init__(self) -> None:
        self._until: OrderedDict[Key, float] = OrderedDict()

    def set(self, key: Key, until: float) -> None:
        """Know the key until then."""
        self._until[key] = until
        self._until.move_to_end(key)
        if len(self._until) > MOST_KEYS:
            self._until.popitem(last=False)

    def holds(self, key: Key, now: float) -> bool:
        """Whether that time is not over."""
        if self._until.get(key, -math.inf) > now:
            return True
        self._until.pop(key, None)
        return False


class Throttle:
    """Counts failures. `first_delay` is in seconds; times are monotonic seconds.

    `account` is the name that was tried, empty where none was, as with a wrong token.
    """

    def __init__(self, first_delay: float = FIRST_DELAY) -> None:
        self._first_delay = first_delay
        self._places: _Table[str] = _Table()
        self._accounts: _Table[bytes] = _Table()
        self._pairs: _Table[_Pair] = _Table()
        self._blocked: _Until[str] = _Until()
        self._known: _Until[_Pair] = _Until()

    def verdict(self, place: str, account: bytes, now: float) -> Verdict:
        """Whether this login may be tried at all."""
        pair = (place, _digest(account))
        if self._known.holds(pair, now) and _whole(self._pairs.level(pair, now)) < MOST_OF_OWNER:
            return Verdict.TRY
        if self._blocked.holds(place, now):
            return Verdict.PLACE_BLOCKED
        if _whole(self._accounts.level(pair[1], now)) >= MOST_OF_ACCOUNT:
            return Verdict.ACCOUNT_DEFERRED
        return Verdict.TRY

    def failed(self, place: str, account: bytes, now: float) -> float:
        """Count one failure; returns the seconds that its answer shall wait."""
        pair = (place, _digest(account))
        level = of_place = self._places.add(place, 1, now)
        if account:
            self._pairs.add(pair, 1, now)
            level = max(of_place, self._accounts.add(pair[1], 1, now))
        if _whole(of_place) >= MOST_OF_PLACE:
            self._blocked.set(place, now + BLOCKED_SECONDS)
        doublings = min(_whole(level) - 1, 20)
        return float(min(self._first_delay * 2.0**doublings, LONGEST_DELAY))

    def succeeded(self, place: str, account: bytes, now: float) -> None:
        """Forgive what this account has failed at this place, and nothing else."""
        pair = (place, _digest(account))
        forgiven = self._pairs.level(pair, now)
        if forgiven:
            self._pairs.add(pair, -forgiven, now)
            self._places.add(place, -forgiven, now)
            self._accounts.add(pair[1], -forgiven, now)
        self._known.set(pair, now + KNOWN_SECONDS)


def _whole(level: float) -> int:
    """A failure counts as one until it is forgiven as a whole."""
    return math.ceil(level)


def _digest(account: bytes) -> bytes:
    """Names of strangers are long; what is kept of them is not."""
    return hashlib.blake2b(account, digest_size=16).digest()
