"""Opportunistic TLS towards next hops (RFC 3207, RFC 7435): one context, sessions, bad memories.

Certificates are not verified: what can be had is encryption against those who only listen. A
session is kept for each place, so that the next connection needs no full handshake. A place whose
TLS is broken gets clear text for a while without another try.
"""

from __future__ import annotations

import math
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from services.delivery.candidates import Candidate
from services.delivery.hop import NextHop
from shared import metrics

MOST_PLACES = 1024
"""Places that are remembered; a session holds the certificates of the peer."""
BROKEN_FOR = 300.0
"""Seconds in which TLS is not tried again at a place where it failed."""

_full, _resumed, _failed = (
    metrics.tls_handshakes.labels(result).inc for result in metrics.TLS_RESULTS
)
_Key = tuple[str, str, int]
_Value = TypeVar("_Value")
_session: ContextVar[ssl.SSLSession | None] = ContextVar("session", default=None)


class ResumingContext(ssl.SSLContext):
    """Begins each handshake with the session of the current context: event loops pass on none."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As the base class does."""
        session = session or _session.get()
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class Tls:
    """What this process knows about TLS of next hops. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._sessions: OrderedDict[_Key, ssl.SSLSession] = OrderedDict()
        self._broken: OrderedDict[_Key, float] = OrderedDict()

    def is_worth_a_try(self, place: Candidate) -> bool:
        """Whether TLS did not fail there just now."""
        return self._broken.get(_key(place), -math.inf) + BROKEN_FOR <= self._clock()

    @contextmanager
    def resuming(self, place: Candidate) -> Iterator[None]:
        """For a connection that is made and secured inside.

        uvloop runs the handshake in the context in which the connection was made, asyncio in that
        in which STARTTLS is called.
        """
        token = _session.set(self._sessions.get(_key(place)))
        try:
            yield
        finally:
            _session.reset(token)

    async def secure(self, hop: NextHop) -> None:
        """STARTTLS and EHLO. Raises SMTPException, OSError, ValueError."""
        try:
            await hop.secure(self._context, hop.place.host)
        except BaseException:
            _failed()
            self._sessions.pop(_key(hop.place), None)
            raise
        found = hop.ssl_object
        (_resumed if found is not None and found.session_reused else _full)()

    def broke(self, place: Candidate) -> None:
        """TLS failed there."""
        _put(self._broken, place, self._clock())

    def keep(self, hop: NextHop) -> None:
        """Remember the session of a connection that is about to end: by now its ticket has come."""
        found = hop.ssl_object
        if found is None or found.context is not self._context:
            return  # a verified one (see `verified`), which must not be mixed with these
        if (session := found.session) is None:
            return
        if session.has_ticket or found.version() != "TLSv1.3":
            _put(self._sessions, hop.place, session)


def _key(place: Candidate) -> _Key:
    return place.host, place.address, place.port


def _put(memory: OrderedDict[_Key, _Value], place: Candidate, value: _Value) -> None:
    """Keep it as the newest; the oldest goes when there are too many."""
    memory.pop(_key(place), None)
    memory[_key(place)] = value
    if len(memory) > MOST_PLACES:
        memory.popitem(last=False)
