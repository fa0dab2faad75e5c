"""Opportunistic TLS towards next hops (RFC 3207, RFC 7435): one context, sessions, bad memories.

Certificates are not verified: what can be had is encryption against those who only listen. A
session is kept for each place, so that the next connection needs no full handshake. A place whose
TLS is broken gets clear text for a while without another try.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

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
    """Gives each handshake the session that its task has chosen: event loops have no way to."""

    def wrap_bio(self, *args: Any, **keys: Any) -> ssl.SSLObject:
        """As the base class does, with the session of the current context."""
        return super().wrap_bio(*args, **{**keys, "session": _session.get()})


class Tls:
    """What this process knows about TLS of next hops. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._sessions: dict[_Key, ssl.SSLSession] = {}
        self._broken: dict[_Key, float] = {}

    def is_worth_a_try(self, place: Candidate) -> bool:
        """Whether TLS did not fail there just now."""
        return self._broken.get(_key(place), -math.inf) + BROKEN_FOR <= self._clock()

    async def secure(self, hop: NextHop) -> None:
        """STARTTLS and EHLO. Raises SMTPException, OSError, ValueError."""
        token = _session.set(self._sessions.get(_key(hop.place)))
        try:
            await hop.secure(self._context)
        except BaseException:
            _failed()
            self._sessions.pop(_key(hop.place), None)
            raise
        finally:
            _session.reset(token)
        found = hop.ssl_object
        (_resumed if found is not None and found.session_reused else _full)()

    def broke(self, place: Candidate) -> None:
        """TLS failed there."""
        _put(self._broken, place, self._clock())

    def keep(self, hop: NextHop) -> None:
        """Remember the session of a connection that is about to end: by now its ticket has come."""
        found = hop.ssl_object
        if found is None or (session := found.session) is None:
            return
        if session.has_ticket or found.version() != "TLSv1.3":
            _put(self._sessions, hop.place, session)


def _key(place: Candidate) -> _Key:
    return place.host, place.address, place.port


def _put(memory: dict[_Key, _Value], place: Candidate, value: _Value) -> None:
    """Keep it as the newest; the oldest goes when there are too many."""
    memory.pop(_key(place), None)
    memory[_key(place)] = value
    if len(memory) > MOST_PLACES:
        del memory[next(iter(memory))]
