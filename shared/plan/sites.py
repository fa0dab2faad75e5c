"""Where mail really goes (pure): the site behind a set of mail exchangers, and whose it is.

Thousands of domains at one provider are one site. Its name is computed from the names of the
exchangers alone, so that every process, today and tomorrow, computes the same. Nobody can choose
exchangers that give the name of another site: mail of one site may share connections.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from shared.plan.providers import BUILT_IN
from shared.settings.shaping import OTHER_PROVIDER, ProviderSettings

CACHED_SETS = 50_000

_PLAIN = re.compile(r"[a-z0-9._-]+")
"""A host as it should be. DNS allows any octet in a name, also what has a meaning here."""


@dataclass(frozen=True, slots=True)
class Site:
    """One site. `provider` is one of a bounded set: it may be a metric's label."""

    name: str
    provider: str = OTHER_PROVIDER


class Sites:
    """Names sites. `providers` are looked up before the built-in ones; the first match wins."""

    def __init__(self, providers: Iterable[ProviderSettings] = ()) -> None:
        self._by_suffix: dict[str, tuple[str, str]] = {}
        for provider in (*providers, *BUILT_IN):
            suffixes = [mx.lower() for mx in provider.mx if mx.lower() not in self._by_suffix]
            one = f"*.{suffixes[0]}" if provider.one_site and suffixes else ""
            self._by_suffix |= dict.fromkeys(suffixes, (provider.name, one))
        self._known: dict[tuple[str, ...], Site] = {}

    def of(self, hosts: Sequence[str]) -> Site:
        """The site of a set of exchangers, in any order. Raises ValueError for an empty one."""
        key = tuple(hosts)
        site = self._known.get(key)
        if site is None:
            if len(self._known) >= CACHED_SETS:
                self._known.clear()
            site = self._known[key] = self._find(sorted({host.lower() for host in hosts}))
        return site

    def _find(self, hosts: Sequence[str]) -> Site:
        owners = {self._owner(host) for host in hosts}
        providers = {provider for provider, _ in owners}
        one = owners.pop()[1] if len(owners) == 1 else ""
        provider = providers.pop() if len(providers) == 1 else OTHER_PROVIDER
        return Site(one or _set_name(hosts), provider)

    def _owner(self, host: str) -> tuple[str, str]:
        for suffix in _suffixes(host) if _PLAIN.fullmatch(host) else ():
            owner = self._by_suffix.get(suffix)
            if owner is not None:
                return owner
        return OTHER_PROVIDER, ""


def _suffixes(host: str) -> Iterator[str]:
    yield host
    while (dot := host.find(".")) >= 0:
        host = host[dot + 1 :]
        yield host


def _set_name(hosts: Sequence[str]) -> str:
    """The only host, or the first by name and a digest of all that nobody can find another for."""
    if not hosts:
        raise ValueError("a site needs an exchanger")
    if len(hosts) == 1 and _PLAIN.fullmatch(hosts[0]):
        return hosts[0]
    text = "".join(f"{len(host)}:{host}" for host in hosts)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return f"{hosts[0]}~{base64.b32hexencode(digest).decode()[:26].lower()}"
