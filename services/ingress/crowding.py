"""How many sessions one place may have, and how fast it may open them (pure).

A place is an address, and the network around it: /24 of IPv4, /64 and /48 of IPv6, where one
customer has as many addresses as he likes.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

MOST_PLACES = 50_000
"""Places whose rate, or whose login, is remembered; those not seen for longest go first."""
MINUTE = 60.0
KNOWN_FOR = 86_400.0
"""Seconds after its last login until a place is strange again."""


@dataclass(frozen=True, slots=True)
class CrowdLimits:
    """Sessions at once of an address and of a network, and new ones a minute of an address."""

    address: int
    network: int
    a_minute: int


class Crowd:
    """Who is here. Times are monotonic seconds."""

    def __init__(self, limits: CrowdLimits) -> None:
        self._limits = limits
        self._open: dict[str, int] = {}
        self._rates: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._known: OrderedDict[str, float] = OrderedDict()

    def set_limits(self, limits: CrowdLimits) -> None:
        """From now on these hold, for sessions to come."""
        self._limits = limits

    def welcome(self, address: str, now: float) -> None:
        """Somebody at this address has logged in."""
        place = places(address)[0]
        self._known[place] = now
        self._known.move_to_end(place)
        if len(self._known) > MOST_PLACES:
            self._known.popitem(last=False)

    def knows(self, address: str, now: float) -> bool:
        """Whether somebody at this address has logged in of late."""
        since = self._known.get(places(address)[0])
        return since is not None and now - since < KNOWN_FOR

    def enter(self, address: str, now: float) -> bool:
        """Whether one more session may begin; it counts until `leave`."""
        limits, (near, far) = self._limits, places(address)
        if self._open.get(near, 0) >= limits.address or self._open.get(far, 0) >= limits.network:
            return False
        if not self._take(near, now):
            return False
        for place in (near, far):
            self._open[place] = self._open.get(place, 0) + 1
        return True

    def leave(self, address: str) -> None:
        """A session that had entered has ended."""
        for place in places(address):
            left = self._open.pop(place) - 1
            if left:
                self._open[place] = left

    def _take(self, place: str, now: float) -> bool:
        most = float(self._limits.a_minute)
        left, since = self._rates.pop(place, (most, now))
        left = min(most, left + (now - since) * most / MINUTE)
        taken = left >= 1
        self._rates[place] = (left - taken, now)
        if len(self._rates) > MOST_PLACES:
            self._rates.popitem(last=False)
        return taken


@lru_cache(maxsize=10_000)
def places(address: str) -> tuple[str, str]:
    """The names of the place that an IP address is, and of the one around it."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed), str(ipaddress.ip_network((parsed, 24), strict=False))
    near, far = (ipaddress.ip_network((parsed, bits), strict=False) for bits in (64, 48))
    return str(near), str(far)
