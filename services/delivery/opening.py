"""Opens a connection to the best mail exchanger that answers (RFC 5321, 5.1; RFC 3207).

Addresses are looked up once for each attempt. STARTTLS is opportunistic: a handshake that fails is
followed by one connection in clear text (RFC 7435). For mail that requires TLS see `verified`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from aiosmtplib import SMTPException, SMTPResponseException

from services.delivery.candidates import Candidate, candidates, in_order, literal, unclear
from services.delivery.classify import LATE, Stage, classify, unreachable
from services.delivery.hop import NextHop
from services.delivery.secrecy import NOT_AUTHENTIC, is_secret
from services.delivery.tls import Tls
from services.delivery.verified import Unfit, VerifiedTls
from services.delivery.work import Walk
from shared.dns.answers import AddressAnswer
from shared.dns.interface import Resolver
from shared.messages.model import DeliveryJob
from shared.messages.outcome import Deferred, Failed, Outcome
from shared.settings.model import Settings
from shared.settings.values import split_host_port
from shared.smtp.replies import Reply, parse_reply

_OUT_OF_TIME = Deferred(
    Reply(451, "4.4.1", "No host took the mail in the time for one attempt"), "timeout"
)
_AT_LIMIT = Deferred(
    Reply(451, "4.3.2", "The site's limit of connections a minute leaves none for another try"),
    "limit",
)

SOCKS_PORT = 1080


def _loop(place: Candidate) -> Failed:
    text = f"{place.host} [{place.address}] greets with our own name: the mail would loop"
    return Failed(Reply(554, "5.4.6", text), "routing")


def _reason(error: Exception) -> str:
    late = isinstance(error, TimeoutError) or LATE in str(error)
    return "timeout" if late else "connect"


Secure = Callable[[NextHop], Awaitable[None]]


class TlsFailed(Exception):  # noqa: N818
    """STARTTLS was offered and did not work."""


class Opener:
    """Makes connections that are past EHLO."""

    def __init__(self, settings: Settings, resolver: Resolver, chance: random.Random) -> None:
        self._settings = settings.delivery
        self._hostname = settings.hostname.lower()
        self._resolver = resolver
        self._chance = chance
        self._tls = Tls(time.monotonic)
        self._verified = VerifiedTls(settings.delivery.tls_authority)
        socks5 = settings.delivery.socks5
        self._gateway = split_host_port(socks5, SOCKS_PORT) if socks5 else None

    async def open(self, job: DeliveryJob, walk: Walk) -> NextHop | Outcome:
        """A connection to the next place of the walk, or what it means that there is none.

        Raises nothing. For a secret job it is verified (see `secrecy`).
        """
        if is_secret(job) and not job.authentic:
            return NOT_AUTHENTIC
        if walk.places is None:
            places = await self._places(job, walk)
            if not isinstance(places, tuple):
                return places
            walk.places = deque(place for place in places if place not in walk.tried)
        while walk.places:
            if asyncio.get_running_loop().time() >= walk.not_after:
                walk.failures.append((walk.places[0].preference, _OUT_OF_TIME))
                break
            if not walk.may_connect():
                walk.failures.append((walk.places[0].preference, _AT_LIMIT))
                break
            place = walk.places.popleft()
            walk.tried.add(place)
            hop = await self._try(place, walk, job)
            if isinstance(hop, NextHop) and hop.name == self._hostname and not job.static:
                hop.close()
                hop = _loop(place)
            if isinstance(hop, NextHop):
                hop.better_failure = walk.better_failure(place.preference)
                return hop
            walk.failures.append((place.preference, hop))
        return unreachable([outcome for _, outcome in walk.failures])

    async def _places(
        self, job: DeliveryJob, walk: Walk
    ) -> tuple[Candidate, ...] | Deferred | Failed:
        exchangers = in_order(job.exchangers, self._chance)
        answers: Sequence[AddressAnswer | None] = [literal(one.host) for one in exchangers]
        if len(exchangers) == 1:
            answers = [await self._addresses(exchangers[0].host)]
        elif None in answers:
            # At once: hosts that are silent one after another would cost a minute.
            answers = await asyncio.gather(*(self._addresses(one.host) for one in exchangers))
        found = [(one, answer) for one, answer in zip(exchangers, answers, strict=True) if answer]
        walk.failures += unclear(found)
        private = job.static or self._settings.allow_private_addresses
        return candidates(found, port=self._settings.smtp_port, private=private)

    async def _addresses(self, host: str) -> AddressAnswer:
        return literal(host) or await self._resolver.addresses(host)

    async def _try(self, place: Candidate, walk: Walk, job: DeliveryJob) -> NextHop | Outcome:
        if not (job.require_tls and job.authentic):
            return await self._try_any(place, walk)
        try:
            return await self._reach(place, walk, self._verified.secure)
        except Unfit as unfit:
            if is_secret(job):
                return unfit.outcome
        return await self._try_any(place, walk) if walk.may_connect() else _AT_LIMIT

    async def _try_any(self, place: Candidate, walk: Walk) -> NextHop | Outcome:
        try:
            tries = self._tls.is_worth_a_try(place)
            return await self._reach(place, walk, self._secure if tries else _in_clear)
        except TlsFailed:
            self._tls.broke(place)
        if not walk.may_connect():
            return _AT_LIMIT
        return await self._reach(place, walk, _in_clear, "tls")

    async def _reach(
        self, place: Candidate, walk: Walk, secure: Secure, reason: str = ""
    ) -> NextHop | Outcome:
        """Connect; `reason` is that of a lost link, if known. Raises what only `secure` raises."""
        try:
            return await self._connect(place, walk.not_after, secure)
        except SMTPResponseException as error:
            return classify(parse_reply(error.code, error.message), Stage.SESSION)
        except (SMTPException, OSError) as error:
            text = f"{place.host} [{place.address}]: {str(error) or 'connecting took too long'}"
            return Deferred(Reply(450, "4.4.1", text), reason or _reason(error))

    async def _connect(self, place: Candidate, not_after: float, secure: Secure) -> NextHop:
        hop = NextHop(place, self._hostname, self._settings.timeouts, self._tls.keep, self._gateway)
        try:
            with self._tls.resuming(place):
                await hop.connect(not_after)
                await hop.greet()
                await secure(hop)
        except BaseException:
            hop.close()
            raise
        if not self._settings.chunking:
            hop.extensions.pop("chunking", None)
        if not hop.verified:
            hop.extensions.pop("requiretls", None)  # anybody may have said so
        hop.note_facts()
        return hop

    async def _secure(self, hop: NextHop) -> None:
        if "starttls" not in hop.extensions:
            return
        try:
            await self._tls.secure(hop)
        except (SMTPException, OSError, ValueError) as error:
            raise TlsFailed(str(error)) from error


async def _in_clear(_hop: NextHop) -> None:
    """TLS was broken there just now."""
