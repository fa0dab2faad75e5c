"""Whose mail a user may submit, and how much of it (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import idna

from services.ingress.policy import User

HOUR = 3600.0


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

    An allowance fills up evenly over an hour. It is that of one process: with several, a user may
    send so many times as much. `clock` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: dict[tuple[str, str], tuple[float, float]] = {}
        self._sessions: dict[str, int] = {}

    def message(self, user: User) -> bool:
        """Whether the user may begin one more message; it counts."""
        return self._take(user.username, "messages", user.messages_per_hour)

    def recipient(self, user: User) -> bool:
        """Whether the user may name one more recipient; it counts."""
        return self._take(user.username, "recipients", user.recipients_per_hour)

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

    def _take(self, username: str, what: str, an_hour: int | None) -> bool:
        if an_hour is None:
            return True
        now = self._clock()
        left, since = self._left.get((username, what), (float(an_hour), now))
        left = min(float(an_hour), left + (now - since) * an_hour / HOUR)
        taken = left >= 1
        self._left[username, what] = (left - 1 if taken else left, now)
        return taken
