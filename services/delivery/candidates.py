"""Which hosts to try, in which order (pure; RFC 5321, 5.1).

Mail exchangers and the addresses found for them become one bounded list. Addresses that came out
of DNS may not point into private networks, or a stranger's zone could aim us at our own hosts.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.dns.answers import AddressAnswer, Addresses, DnsTrouble
from shared.messages.model import MailExchanger
from shared.messages.outcome import Deferred, Failed
from shared.smtp.replies import Reply

MOST_CANDIDATES = 20
"""Addresses tried for one connection: a zone may list any number."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place to connect to; `host` is the mail exchanger's name."""

    host: str
    address: str
    port: int


Found = Sequence[tuple[MailExchanger, AddressAnswer]]


def in_order(exchangers: Iterable[MailExchanger], chance: random.Random) -> list[MailExchanger]:
    """Lower preference first, equal ones shuffled."""
    shuffled = list(exchangers)
    chance.shuffle(shuffled)
    return sorted(shuffled, key=lambda exchanger: exchanger.preference)


def literal(host: str) -> Addresses | None:
    """The address that `host` is itself, None if it is a name."""
    text = host.strip("[]").removeprefix("IPv6:")
    try:
        return Addresses((str(ipaddress.ip_address(text)),))
    except ValueError:
        return None


def is_public(address: str) -> bool:
    """Whether an address lies in the public Internet; also the IPv4 address inside an IPv6 one."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast


def candidates(
    found: Found, *, port: int, private: bool
) -> tuple[Candidate, ...] | Deferred | Failed:
    """The places to try, in the order of `found`, or what it means that there is none.

    `private` permits addresses that are not public.
    """
    usable = tuple(
        Candidate(exchanger.host, address, exchanger.port or port)
        for exchanger, answer in found
        if isinstance(answer, Addresses)
        for address in answer.addresses
        if private or is_public(address)
    )
    return usable[:MOST_CANDIDATES] or _nowhere(found)


def _nowhere(found: Found) -> Deferred | Failed:
    if any(isinstance(answer, DnsTrouble) for _, answer in found):
        return Deferred(Reply(451, "4.4.3", "Addresses of the mail exchangers cannot be found now"))
    if any(isinstance(answer, Addresses) for _, answer in found):
        text = "The mail exchangers have no public address"
    else:
        text = "The mail exchangers have no address"
    return Failed(Reply(550, "5.4.4", text), "routing")
