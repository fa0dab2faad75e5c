"""Which hosts to try, in which order (pure; RFC 5321, 5.1).

Mail exchangers and the addresses found for them become one bounded list. Addresses that came out
of DNS may not point into private networks, or a stranger's zone could aim us at our own hosts.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from shared.dns.answers import AddressAnswer, Addresses, DnsTrouble
from shared.messages.model import MailExchanger
from shared.messages.outcome import Deferred, Failed, Outcome
from shared.smtp.replies import Reply

MOST_HOSTS = 10
MOST_CANDIDATES = 20
"""Hosts and addresses tried for one connection: a zone may list any number."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place to connect to; `host` is the mail exchanger's name."""

    preference: int
    host: str
    address: str
    port: int


Found = Sequence[tuple[MailExchanger, AddressAnswer]]


def in_order(exchangers: Iterable[MailExchanger], chance: random.Random) -> list[MailExchanger]:
    """Lower preference first, equal ones shuffled; the best of them if there are many."""
    shuffled = list(exchangers)
    chance.shuffle(shuffled)
    return sorted(shuffled, key=lambda exchanger: exchanger.preference)[:MOST_HOSTS]


@lru_cache(maxsize=1024)
def literal(host: str) -> Addresses | None:
    """The address that `host` is itself, None if it is a name."""
    text = host.strip("[]").removeprefix("IPv6:")
    try:
        return Addresses((str(ipaddress.ip_address(text)),))
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def is_public(text: str) -> bool:
    """Whether a stranger's zone may make us connect there.

    Not loopback, private, shared (CGNAT), link-local, multicast, unspecified or reserved, in no
    disguise: v4-mapped, 6to4, Teredo and NAT64 addresses carry an IPv4 address.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return _is_global(address)
    if address.scope_id is not None or address.ipv4_mapped is not None:
        return False
    if address in _NAT64:
        return _is_global(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None:
        return _is_global(address.sixtofour)
    return address.teredo is None and not address.is_site_local and _is_global(address)


def _is_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    # The standard library counts some reserved and multicast ranges as global.
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
    )


def candidates(
    found: Found, *, port: int, private: bool
) -> tuple[Candidate, ...] | Deferred | Failed:
    """The places to try, in the order of `found`, or what it means that there is none.

    `private` permits addresses that are not public.
    """
    usable = tuple(
        Candidate(exchanger.preference, exchanger.host, address, exchanger.port or port)
        for exchanger, answer in found
        if isinstance(answer, Addresses)
        for address in answer.addresses
        if private or is_public(address)
    )
    return usable[:MOST_CANDIDATES] or _nowhere(found)


def unclear(found: Found) -> list[tuple[int, Outcome]]:
    """The hosts, by preference, of which the DNS does not say at present where they are."""
    return [
        (exchanger.preference, _no_answer(f"{exchanger.host}: {answer.detail}"))
        for exchanger, answer in found
        if isinstance(answer, DnsTrouble)
    ]


def _no_answer(text: str) -> Deferred:
    return Deferred(Reply(451, "4.4.3", text), "dns")


def _nowhere(found: Found) -> Deferred | Failed:
    if any(isinstance(answer, DnsTrouble) for _, answer in found):
        return _no_answer("Addresses of the mail exchangers cannot be found now")
    if any(isinstance(answer, Addresses) for _, answer in found):
        text = "The mail exchangers have no public address"
    else:
        text = "The mail exchangers have no address"
    return Failed(Reply(550, "5.4.4", text), "routing")
