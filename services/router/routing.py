"""Which way a recipient goes (pure): a static route, the mail exchangers of its domain, or none.

Static routes come from the configuration; the first one that names the domain, or `*`, wins. What
DNS says is passed in. `services.router.ways` adds where each way really leads.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import idna

from shared.dns.answers import (
    DnsTrouble,
    MailExchangers,
    MxAnswer,
    NoRecords,
    NoSuchDomain,
    NullMx,
)
from shared.mail.deadline import OVERDUE
from shared.messages.model import MailExchanger
from shared.settings.model import RouteSettings, Settings
from shared.settings.shaping import OTHER_PROVIDER
from shared.settings.values import split_host_port
from shared.smtp.replies import Reply

ANY_DOMAIN = "*"
LONGEST_DOMAIN = 253

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# Underscores are not allowed in host names, but domains with them do take mail.
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Route:
    """A destination: recipients of equal `key` share jobs, at most `most` in each.

    `authentic`: nobody on the network can have chosen its exchangers.
    """

    destination: str
    exchangers: tuple[MailExchanger, ...]
    static: bool = False
    authentic: bool = False
    site: str = ""
    provider: str = OTHER_PROVIDER
    most: int = 100
    key: str = field(init=False)
    """Names the route within one mail."""

    def __post_init__(self) -> None:
        # A route's host may be the name of a domain in the same mail.
        key = f"static:{self.destination} {self.site}" if self.static else self.destination
        object.__setattr__(self, "key", key)


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """No way, and there never will be one."""

    reply: Reply
    reason: str


@dataclass(frozen=True, slots=True)
class Postponed:
    """No answer to rely on: ask again later (RFC 5321, 5.1)."""

    domain: str
    reply: Reply
    most: int = 100

    @property
    def key(self) -> str:
        """Names it within one mail."""
        return self.domain


Way = Route | Undeliverable | Postponed

MALFORMED = Undeliverable(Reply(553, "5.1.3", "Bad destination mailbox address syntax"), "address")
NO_SUCH_DOMAIN = Undeliverable(Reply(550, "5.1.2", "Domain does not exist"), "address")
NO_ADDRESS = Undeliverable(Reply(550, "5.4.4", "Domain has no mail exchanger and no address"),
                           "routing")  # fmt: skip
NULL_MX = Undeliverable(Reply(556, "5.1.10", "Domain accepts no mail (null MX)"), "address")
TOO_LATE = Undeliverable(OVERDUE, "expired")
LOOP = Undeliverable(Reply(554, "5.4.6", "Mail for this domain would loop back to us"), "routing")


def domain_of(address: str) -> str | None:
    """The domain of a mailbox, lower case, as A-labels; an address literal keeps its brackets.

    None for a mailbox without a domain, or with one that cannot exist: DNS would not say so, since
    it cannot even be asked.
    """
    return _normal(address.rpartition("@")[2]) if "@" in address else None


@lru_cache(maxsize=10_000)
def _normal(domain: str) -> str | None:
    if domain.startswith("["):
        return domain.lower() if literal_host(domain) else None
    try:
        name = domain if domain.isascii() else idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return None
    name = name.lower()
    return name if len(name) <= LONGEST_DOMAIN and _DOMAIN.fullmatch(name) else None


def literal_host(domain: str) -> str | None:
    """The address in `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321, 4.1.3), else None."""
    text = domain[1:-1]
    if domain != f"[{text}]" or "%" in text:  # no zone: it would name an interface of ours
        return None
    try:
        if text[:5].lower() == "ipv6:":
            return str(ipaddress.IPv6Address(text[5:]))
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        return None


class StaticRoutes:
    """The configured routes, looked up by domain."""

    def __init__(self, routes: Sequence[RouteSettings]) -> None:
        self._by_domain: dict[str, Route] = {}
        for settings in routes:
            route = _static(settings.hosts)
            for domain in settings.domains:
                key = domain if domain == ANY_DOMAIN else domain_of(f"@{domain}") or domain
                self._by_domain.setdefault(key, route)

    def find(self, domain: str) -> Route | None:
        """The route of a domain, or that of `*`, or None: ask DNS."""
        return self._by_domain.get(domain) or self._by_domain.get(ANY_DOMAIN)


def _static(hosts: Sequence[str]) -> Route:
    exchangers = tuple(
        MailExchanger(preference, host, port)
        for preference, (host, port) in enumerate(split_host_port(text, 0) for text in hosts)
    )
    return Route(",".join(hosts), exchangers, static=True, authentic=True)


def literal_route(domain: str) -> Route | None:
    """The way to an address literal; whether its address is allowed is for delivery to say."""
    host = literal_host(domain)
    if host is None:
        return None
    return Route(domain, (MailExchanger(0, host),), authentic=True, site=f"[{host}]")


def own_names(settings: Settings) -> frozenset[str]:
    """The names under which this system is known as a mail exchanger, lower case."""
    return frozenset(name.lower() for name in (settings.hostname, *settings.router.own_names))


def way_by_dns(domain: str, answer: MxAnswer, own: Collection[str]) -> Way:
    """What an answer of the DNS means for mail to `domain`; `own` are our names, lower case."""
    match answer:
        case MailExchangers(exchangers):
            better = _better_than(own, exchangers)
            return Route(domain, better, authentic=answer.authentic) if better else LOOP
        case NullMx():
            return NULL_MX
        case NoSuchDomain():
            return NO_SUCH_DOMAIN
        case NoRecords():
            return NO_ADDRESS
        case DnsTrouble(detail):
            return Postponed(domain, Reply(451, "4.4.3", f"DNS lookup of {domain}: {detail}"))


def _better_than(
    own: Collection[str], exchangers: tuple[MailExchanger, ...]
) -> tuple[MailExchanger, ...]:
    # RFC 5321, 5.1: a relay discards itself and every exchanger that is no better, or mail loops.
    ours = [exchanger.preference for exchanger in exchangers if exchanger.host in own]
    if not ours:
        return exchangers
    return tuple(exchanger for exchanger in exchangers if exchanger.preference < min(ours))


def given_up(way: Way) -> Way:
    """The way of a recipient whose time is over: what was to be asked again has failed."""
    if not isinstance(way, Postponed):
        return way
    text = f"Delivery time expired; last reply: {way.reply}"
    return Undeliverable(Reply(451, "4.4.7", text), "expired")
