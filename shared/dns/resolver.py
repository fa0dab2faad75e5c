"""Name service through dnspython: typed answers, cached by TTL, equal lookups merged.

dnspython has no cache of its own unless told, merges nothing and never remembers trouble; the
cache here keeps answers by their TTL, "no" for a minute and trouble for seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container, Iterable
from typing import Any, TypeVar, cast

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from shared.dns.answers import (
    AddressAnswer,
    Addresses,
    DnsTrouble,
    MailExchangers,
    MxAnswer,
    NoRecords,
    NoSuchDomain,
    NullMx,
)
from shared.messages.model import MailExchanger
from shared.settings.load import ConfigError
from shared.settings.model import DnsSettings
from shared.settings.values import split_host_port

LEAST_TTL = 5.0
MOST_TTL = 3600.0
NEGATIVE_TTL = 60.0
TROUBLE_TTL = 5.0
CACHE_ENTRIES = 50_000
MOST_EXCHANGERS = 20
"""More mail exchangers than this are not tried (some domains publish hundreds)."""
EDNS_PAYLOAD = 1232
LOOKUPS_AT_ONCE = 400
"""Each holds a socket, and a mail to a thousand domains asks for all of them together."""

Answer = MxAnswer | AddressAnswer
Lookup = TypeVar("Lookup", bound=Answer)


class AnswerCache:
    """Answers by question until they are too old, the least recently used go first.

    `clock` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, size: int = CACHE_ENTRIES):
        self._clock = clock
        self._size = size
        self._answers: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()

    def get(self, kind: str, name: str) -> Answer | None:
        """A fresh answer, or None."""
        found = self._answers.get((kind, name))
        if found is None or found[0] < self._clock():
            return None
        self._answers.move_to_end((kind, name))
        return found[1]

    def put(self, kind: str, name: str, answer: Answer, ttl: float) -> None:
        """Keep an answer for `ttl` seconds, within reason."""
        self._answers[kind, name] = (self._clock() + lifetime(answer, ttl), answer)
        self._answers.move_to_end((kind, name))
        while len(self._answers) > self._size:
            self._answers.popitem(last=False)


def lifetime(answer: Answer, ttl: float) -> float:
    """Seconds for which an answer is kept."""
    if isinstance(answer, DnsTrouble):
        return TROUBLE_TTL
    if isinstance(answer, NoSuchDomain | NoRecords):
        return NEGATIVE_TTL
    return min(max(ttl, LEAST_TTL), MOST_TTL)


class DnspythonResolver:
    """See `shared.dns.interface.Resolver`. At most `room` lookups run at a time.

    Exchangers named in `kept` are told even if a set has so many that it is cut.

    Raises `ConfigError` if neither `settings` nor the file `system` names a server.
    """

    def __init__(
        self,
        settings: DnsSettings,
        cache: AnswerCache | None = None,
        system: str = "/etc/resolv.conf",
        room: int = LOOKUPS_AT_ONCE,
        kept: Container[str] = (),
    ) -> None:
        self._resolver = _configured(settings, system)
        self._trusts_ad = settings.trust_ad
        self._cache = cache or AnswerCache()
        self._kept = kept
        self._room = asyncio.Semaphore(room)
        self._asked: dict[tuple[str, str], asyncio.Future[Answer]] = {}

    def cached_mail_exchangers(self, domain: str) -> MxAnswer | None:
        """The answer if it is known already, without asking anybody."""
        return cast("MxAnswer | None", self._cache.get("mx", domain))

    async def mail_exchangers(self, domain: str) -> MxAnswer:
        """See `Resolver.mail_exchangers`."""
        return await self._once("mx", domain, self._find_exchangers)

    async def addresses(self, host: str) -> AddressAnswer:
        """See `Resolver.addresses`."""
        return await self._once("addresses", host, self._find_addresses)

    async def _once(
        self, kind: str, name: str, find: Callable[[str], Awaitable[tuple[Lookup, float]]]
    ) -> Lookup:
        known = self._cache.get(kind, name)
        if known is not None:
            return cast("Lookup", known)
        key = (kind, name)
        asked = self._asked.get(key)
        if asked is None:
            asked = asyncio.ensure_future(self._find(kind, name, find))
            self._asked[key] = asked
            asked.add_done_callback(lambda _: self._asked.pop(key, None))
        # One asker that is cancelled must not cancel the question of the others.
        return cast("Lookup", await asyncio.shield(asked))

    async def _find(
        self, kind: str, name: str, find: Callable[[str], Awaitable[tuple[Answer, float]]]
    ) -> Answer:
        answer, ttl = await find(name)
        self._cache.put(kind, name, answer, ttl)
        return answer

    async def _find_exchangers(self, domain: str) -> tuple[MxAnswer, float]:
        answer, ttl, authentic = await self._query(domain, "MX")
        if isinstance(answer, NoRecords):
            return await self._implicit(domain)
        if isinstance(answer, NoSuchDomain | DnsTrouble):
            return answer, ttl
        # RFC 7505: "." is no host. Beside other records it must not be, and says nothing.
        hosts = [record for record in answer if record.exchange != dns.name.root]
        if not hosts:
            return NullMx(), ttl
        return MailExchangers(ordered(hosts, self._kept), authentic=authentic), ttl

    async def _implicit(self, domain: str) -> tuple[MxAnswer, float]:
        # RFC 5321, 5.1: without MX records the domain itself is the only exchanger. Whoever made
        # them disappear still has to show a certificate of the domain (RFC 8689, 4.2.1).
        answer, ttl = await self._find_addresses(domain)
        if isinstance(answer, Addresses):
            own = (MailExchanger(0, domain),)
            return MailExchangers(own, implicit=True, authentic=True), ttl
        return answer, ttl

    async def _find_addresses(self, host: str) -> tuple[AddressAnswer, float]:
        answers = await asyncio.gather(self._query(host, "A"), self._query(host, "AAAA"))
        found = [record for answer, *_ in answers if isinstance(answer, list) for record in answer]
        if found:
            # Trouble with one family makes the answer short-lived: the other half may come soon.
            ttls = [ttl for answer, ttl, _ in answers if isinstance(answer, list | DnsTrouble)]
            return Addresses(tuple(record.address for record in found)), min(ttls)
        for answer, *_ in answers:
            if isinstance(answer, DnsTrouble):
                return answer, TROUBLE_TTL
        for answer, *_ in answers:
            if isinstance(answer, NoSuchDomain):
                return answer, NEGATIVE_TTL
        return NoRecords(), NEGATIVE_TTL

    async def _query(
        self, name: str, kind: str
    ) -> tuple[list[Any] | NoSuchDomain | NoRecords | DnsTrouble, float, bool]:
        """What is there, for how many seconds, and whether DNSSEC has validated it."""
        try:
            async with self._room:
                answer = await self._resolver.resolve(name, kind)
        except dns.resolver.NXDOMAIN:
            return NoSuchDomain(), NEGATIVE_TTL, False
        except dns.resolver.NoAnswer:
            return NoRecords(), NEGATIVE_TTL, False
        except (dns.exception.DNSException, OSError, ValueError) as error:
            return DnsTrouble(type(error).__name__), TROUBLE_TTL, False
        rrset = answer.rrset
        if not rrset:
            return NoRecords(), NEGATIVE_TTL, False
        validated = self._trusts_ad and bool(answer.response.flags & dns.flags.AD)
        return list(rrset), float(rrset.ttl), validated


def _configured(settings: DnsSettings, system: str) -> dns.asyncresolver.Resolver:
    try:
        resolver = dns.asyncresolver.Resolver(system, configure=not settings.nameservers)
    except dns.resolver.NoResolverConfiguration as error:
        raise ConfigError(f"dns.nameservers: the system names no server: {error}") from error
    if settings.nameservers:
        servers = [split_host_port(server, 53) for server in settings.nameservers]
        # Not `nameserver_ports`: that has one port for each address.
        resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in servers]
    resolver.lifetime = settings.timeout / 1000
    resolver.timeout = resolver.lifetime / 3
    resolver.use_edns(0, 0, EDNS_PAYLOAD)
    if settings.trust_ad:
        resolver.set_flags(dns.flags.RD | dns.flags.AD)  # else they need not say it (RFC 6840, 5.7)
    return resolver


def ordered(records: Iterable[Any], kept: Container[str] = ()) -> tuple[MailExchanger, ...]:
    """MX records by preference, equal ones by name: the same set is always the same answer.

    Whoever connects shuffles equal ones (RFC 5321, 5.1).
    """
    found = sorted(
        {
            (int(record.preference), record.exchange.to_text(omit_final_dot=True).lower())
            for record in records
        }
    )
    cut = found[:MOST_EXCHANGERS] + [each for each in found[MOST_EXCHANGERS:] if each[1] in kept]
    return tuple(MailExchanger(*each) for each in cut)
