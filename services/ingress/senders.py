"""Whose mail a user may submit, and how much of it (pure)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import idna

from services.ingress.policy import User

MINUTE = 60.0
MINUTES = 60


@dataclass(frozen=True, slots=True)
class Senders:
    """Addresses and whole domains, in lower case, domains as A-labels."""

    addresses: frozenset[str]
    domains: frozenset[str]

    def permits(self, address: str) -> bool:
        """Whether mail may be sent as `address`."""
        local_part, domain = _normal(address)
        return domain in self.domains or f"{local_part}@{domain}" in self.addresses


def parse_senders(entries: Iterable[str]) -> Senders:
    """From `user@example.com`, `@example.com` or `example.com`. Raises ValueError for others."""
    addresses, domains = set(), set()
    for entry in entries:
        local_part, domain = _normal(entry if "@" in entry else f"@{entry}")
        if not domain or " " in entry or "*" in domain:
            raise ValueError(f"{entry!r} is neither an address nor a domain")
        if local_part:
            addresses.add(f"{local_part}@{domain}")
        else:
            domains.add(domain)
    return Senders(frozenset(addresses), frozenset(domains))


@lru_cache(maxsize=4096)
def _normal(address: str) -> tuple[str, str]:
    local_part, _, domain = address.rpartition("@")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return local_part.lower(), ""
    return local_part.lower(), domain.lower()


class Quotas:
    """What each user has left of an hour's messages and recipients, and open sessions.

    What is accepted counts; what is under way is reserved, so that it fits when it is accepted, and
    given back when it is not. It is that of one process: with several, a user may send so many
    times as much. `clock` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._messages: dict[str, _Hour] = {}
        self._recipients: dict[str, _Hour] = {}
        self._sessions: dict[str, int] = {}

    def message(self, user: User) -> bool:
        """Whether the user may begin one more message; it is reserved until `end`."""
        return self._reserve(self._messages, user.username, user.messages_per_hour)

    def recipient(self, user: User) -> bool:
        """Whether the user may name one more recipient; it is reserved until `end`."""
        return self._reserve(self._recipients, user.username, user.recipients_per_hour)

    def end(self, user: User, recipients: int, *, accepted: bool) -> None:
        """A message with so many recipients is accepted, or its reservation given back."""
        if user.messages_per_hour is not None:
            self._settle(self._messages, user.username, 1, accepted)
        if user.recipients_per_hour is not None:
            self._settle(self._recipients, user.username, recipients, accepted)

    def enter(self, user: User) -> bool:
        """Whether the user may have one more session; it counts until `leave`."""
        open_now = self._sessions.get(user.username, 0)
        if user.connections is not None and open_now >= user.connections:
            return False
        self._sessions[user.username] = open_now + 1
        return True

    def leave(self, user: User) -> None:
        """One session of the user has ended."""
        left = self._sessions.pop(user.username) - 1
        if left:
            self._sessions[user.username] = left

    def _reserve(self, hours: dict[str, _Hour], username: str, most: int | None) -> bool:
        if most is None:
            return True
        hour = hours.setdefault(username, _Hour())
        if hour.reserved + hour.accepted(self._clock()) >= most:
            return False
        hour.reserved += 1
        return True

    def _settle(self, hours: dict[str, _Hour], username: str, number: int, accepted: bool) -> None:
        hour = hours.setdefault(username, _Hour())
        hour.reserved -= number
        if accepted:
            hour.accept(number, self._clock())


class _Hour:
    """What was accepted in the last 60 whole minutes and the present one.

    So no hour has more than the limit, wherever it begins, and what was used comes back within a
    minute after its hour.
    """

    __slots__ = ("_minutes", "_total", "reserved")

    def __init__(self) -> None:
        self.reserved = 0
        self._minutes: deque[tuple[int, int]] = deque()
        self._total = 0

    def accepted(self, now: float) -> int:
        """How many count now."""
        oldest = int(now // MINUTE) - MINUTES
        while self._minutes and self._minutes[0][0] < oldest:
            self._total -= self._minutes.popleft()[1]
        return self._total

    def accept(self, number: int, now: float) -> None:
        """So many more."""
        minute = int(now // MINUTE)
        same = self._minutes and self._minutes[-1][0] == minute
        before = self._minutes.pop()[1] if same else 0
        self._minutes.append((minute, before + number))
        self._total += number
