"""Where mail really goes (pure): the site behind a set of mail exchangers, and whose it is.

Thousands of domains at one provider are one site. Its name is computed from the names of the
exchangers alone, so that every process, today and tomorrow, computes the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from shared.settings.shaping import OTHER_PROVIDER, ProviderSettings

CACHED_SETS = 50_000

BUILT_IN = tuple(
    ProviderSettings(name=name, mx=mx, one_site=one_site)
    for name, mx, one_site in (
        ("google", ("google.com", "googlemail.com"), True),
        ("microsoft", ("mail.protection.outlook.com", "mx.microsoft"), True),
        ("microsoft", ("olc.protection.outlook.com", "hotmail.com"), True),
        ("yahoo", ("yahoodns.net",), True),
        ("apple", ("mail.icloud.com", "mail.me.com", "apple.com"), True),
        (
            "gmx",
            ("gmx.net", "gmx.com", "web.de", "kundenserver.de", "1and1.com", "ionos.com"),
            True,
        ),
        ("comcast", ("comcast.net",), True),
        ("orange", ("orange.fr", "wanadoo.fr"), True),
        ("yandex", ("yandex.net", "yandex.ru"), True),
        ("mailru", ("mail.ru",), True),
        ("zoho", ("zoho.com", "zoho.eu", "zoho.in"), True),
        ("fastmail", ("messagingengine.com",), True),
        ("proton", ("protonmail.ch",), True),
        ("amazon", ("amazonaws.com", "awsapps.com"), True),
        # Filters whose customers each have servers, and limits, of their own.
        ("proofpoint", ("pphosted.com", "ppe-hosted.com"), False),
        ("mimecast", ("mimecast.com", "mimecast.co.za"), False),
        ("barracuda", ("barracudanetworks.com",), False),
        ("cisco", ("iphmx.com",), False),
    )
)
"""Providers that need not be configured, by the names of their exchangers as of 2026."""


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
            one = f"*.{provider.mx[0].lower()}" if provider.one_site else ""
            for suffix in provider.mx:
                self._by_suffix.setdefault(suffix.lower(), (provider.name, one))
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
        found = {self._owner(host) for host in hosts}
        provider, one = found.pop() if len(found) == 1 else (OTHER_PROVIDER, "")
        return Site(one or _set_name(hosts), provider)

    def _owner(self, host: str) -> tuple[str, str]:
        for suffix in _suffixes(host):
            owner = self._by_suffix.get(suffix)
            if owner is not None:
                return owner
        return OTHER_PROVIDER, ""


def provider_names(providers: Iterable[ProviderSettings] = ()) -> Collection[str]:
    """Every value that `Site.provider` can have: the known values of a metric's label."""
    return dict.fromkeys([*(p.name for p in (*providers, *BUILT_IN)), OTHER_PROVIDER])


def _suffixes(host: str) -> Iterator[str]:
    yield host
    while (dot := host.find(".")) >= 0:
        host = host[dot + 1 :]
        yield host


def _set_name(hosts: Sequence[str]) -> str:
    """The only host, or the first by name and a digest of all, so that no two sets share one."""
    if not hosts:
        raise ValueError("a site needs an exchanger")
    if len(hosts) == 1:
        return hosts[0]
    digest = hashlib.blake2b("\n".join(hosts).encode(), digest_size=4).hexdigest()
    return f"{hosts[0]}~{digest}"
