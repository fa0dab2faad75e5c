"""What a site may be sent at most (pure): the default, and what the overrides say of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shared.plan.names import normal_domain
from shared.settings.shaping import LimitMatch, LimitOverride, LimitsSettings, SiteLimits

CACHED_SITES = 50_000

KEYS = tuple(SiteLimits.model_fields)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one site, or of one part of it. A rate of 0 is no limit."""

    connections: int = 20
    messages_per_connection: int = 100
    recipients_per_transaction: int = 100
    messages_per_second: float = 0.0
    connections_per_minute: int = 0

    @property
    def divisible_by(self) -> int:
        """Into how many parts these limits can be divided so that each may still do something."""
        per_minute = self.connections_per_minute
        return min(self.connections, per_minute) if per_minute else self.connections

    def part(self, number: int, parts: int) -> Limits:
        """The share of part `number` (from 0) of `parts`; all shares add up to the whole."""
        if parts == 1:
            return self
        return Limits(
            _share(self.connections, number, parts),
            self.messages_per_connection,
            self.recipients_per_transaction,
            self.messages_per_second / parts,
            _share(self.connections_per_minute, number, parts),
        )


def _share(whole: int, number: int, parts: int) -> int:
    return whole // parts + (number < whole % parts)


class LimitTable:
    """The configured limits, looked up by provider, site and domain."""

    def __init__(self, settings: LimitsSettings) -> None:
        self._default = Limits(*(getattr(settings.default, key) for key in KEYS))
        self._overrides = [(_Match(o.match), dict(_given(o))) for o in settings.overrides]
        self._known: dict[tuple[str, str, str], Limits] = {}
        self.domains = frozenset(
            normal_domain(domain) for o in settings.overrides for domain in o.match.domains
        )
        """Domains that are sites of their own, since an override names them."""

    def find(self, provider: str, site: str, domain: str = "") -> Limits:
        """The limits of a site; `domain` only matters if it is one of `domains`."""
        key = (provider, site, domain if domain in self.domains else "")
        limits = self._known.get(key)
        if limits is None:
            if len(self._known) >= CACHED_SITES:
                self._known.clear()
            limits = self._known[key] = self._merge(*key)
        return limits

    def _merge(self, provider: str, site: str, domain: str) -> Limits:
        values = {key: getattr(self._default, key) for key in KEYS}
        for match, given in self._overrides:
            if match.holds(provider, site, domain):
                values |= given
        return Limits(**values)


class _Match:
    def __init__(self, match: LimitMatch) -> None:
        self._providers = frozenset(match.providers)
        self._sites = frozenset(match.sites)
        self._domains = frozenset(map(normal_domain, match.domains))

    def holds(self, provider: str, site: str, domain: str) -> bool:
        return (
            (not self._providers or provider in self._providers)
            and (not self._sites or site in self._sites)
            and (not self._domains or domain in self._domains)
        )


def _given(override: LimitOverride) -> Iterator[tuple[str, float]]:
    for key in KEYS:
        value = getattr(override, key)
        if value is not None:
            yield key, value
