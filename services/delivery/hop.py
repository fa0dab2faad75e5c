"""A connection to a next hop: greeting, EHLO, STARTTLS and QUIT on our protocol.

The list of extensions is all that is wanted of the reply to EHLO. STARTTLS is aiosmtplib's.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache

from aiosmtplib.errors import SMTPConnectResponseError, SMTPHeloError

from services.delivery.candidates import Candidate
from services.delivery.client import PipelinedProtocol
from services.delivery.socks import connect_through
from shared.events.model import Hop, Tls
from shared.messages.outcome import Outcome
from shared.settings.sending import TimeoutSettings
from shared.smtp.replies import Reply


class NextHop:
    """A connection to `place`, from `connect` on.

    `extensions` has the keywords in lower case; `name` is how the peer calls itself, likewise.
    `verified` tells that its certificate was, and that it offers REQUIRETLS.
    `served` counts transactions, `better_failure` is
    the transient failure of a better mail exchanger than `place`, if any. `facts` are what is told
    of it. `before_leave` is called while the connection still stands. With a `gateway` (host and
    port) the connection is its own.
    """

    def __init__(
        self,
        place: Candidate,
        hostname: str,
        timeouts: TimeoutSettings,
        before_leave: Callable[[NextHop], None],
        gateway: tuple[str, int] | None = None,
    ) -> None:
        self.place = place
        self._gateway = gateway
        self.extensions: dict[str, str] = {}
        self.name = ""
        self.served = 0
        self.verified = False
        self.better_failure: Outcome | None = None
        self.facts: Hop | None = None
        self._hostname = hostname
        self._timeouts = timeouts
        self._before_leave = before_leave
        self._link: PipelinedProtocol | None = None

    @property
    def link(self) -> PipelinedProtocol:
        """The connection; only after `connect`."""
        assert self._link is not None
        return self._link

    async def connect(self, not_after: float) -> None:
        """Connect and take the greeting. Raises OSError, SMTPException.

        `not_after`, in the loop's time, bounds this and what follows.
        """
        loop = asyncio.get_running_loop()
        end = min(loop.time() + self._timeouts.connect / 1000, not_after)
        async with asyncio.timeout_at(end):
            link = await self._link_up(loop)
        self._link = link
        link.not_after = not_after
        reply = await link.greeting(self._timeouts.greeting / 1000)
        link.check(reply)
        if reply.code != 220:
            raise SMTPConnectResponseError(*_parts(reply))

    async def _link_up(self, loop: asyncio.AbstractEventLoop) -> PipelinedProtocol:
        address, port = self.place.address, self.place.port
        if self._gateway is None:
            _, link = await loop.create_connection(lambda: PipelinedProtocol(loop), address, port)
        else:
            sock = await connect_through(self._gateway, address, port)
            try:
                _, link = await loop.create_connection(lambda: PipelinedProtocol(loop), sock=sock)
            except BaseException:
                sock.close()
                raise
        return link

    async def greet(self) -> None:
        """EHLO, or HELO where that is refused. Raises SMTPException."""
        reply = await self._say(b"EHLO")
        if reply.code == 250:
            self.extensions = dict(extensions(reply))
            self.name = name(reply)
            return
        self.extensions = {}
        if reply.permanent:
            reply = await self._say(b"HELO")
        if reply.code != 250:
            raise SMTPHeloError(*_parts(reply))
        self.name = name(reply)

    async def _say(self, verb: bytes) -> Reply:
        line = b"%b %b\r\n" % (verb, self._hostname.encode("ascii"))
        (reply,) = await self.link.ask(line, (self._timeouts.ehlo / 1000,))
        self.link.check(reply)
        return reply

    async def secure(self, context: ssl.SSLContext, name: str) -> None:
        """STARTTLS with the host `name`, then EHLO anew (RFC 3207, 4.2).

        Raises SMTPException, OSError, ValueError.
        """
        left = self.link.not_after - asyncio.get_running_loop().time()
        seconds = min(self._timeouts.tls / 1000, max(left, 0.001))
        await self.link.start_tls(context, name, timeout=seconds)
        await self.greet()

    def note_facts(self) -> None:
        """Keep what is told of the connection, which stands by now."""
        place = self.place
        self.facts = Hop(place.host, place.address, place.port, _tls_of(self.ssl_object))

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """What tells about TLS, None in clear text."""
        transport = self.link.transport
        if transport is None:
            return None
        found: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        return found

    async def leave(self) -> None:
        """QUIT, where somebody is left to hear it; then close."""
        try:
            if self.link.usable:
                self._before_leave(self)
                self.link.not_after = math.inf
                await self.link.ask(b"QUIT\r\n", (self._timeouts.quit / 1000,))
        finally:
            self.close()

    def close(self) -> None:
        """Close at once."""
        if self._link is not None and self._link.transport is not None:
            self._link.transport.close()


def _parts(reply: Reply) -> tuple[int, str]:
    return reply.code, f"{reply.enhanced} {reply.text}" if reply.enhanced else reply.text


def _tls_of(found: ssl.SSLObject | None) -> Tls | None:
    cipher = found.cipher() if found is not None else None
    if found is None or cipher is None:
        return None
    # Not the version in `cipher`: that is the one in which the cipher was defined.
    return Tls(found.version() or "", cipher[0], bool(found.session_reused))


def name(reply: Reply) -> str:
    """The domain in a reply to EHLO or HELO (RFC 5321, 4.1.1.1), in lower case."""
    return reply.text.partition("\n")[0].partition(" ")[0].strip().lower()


@lru_cache(maxsize=64)
def extensions(reply: Reply) -> Mapping[str, str]:
    """The keywords of an EHLO reply, in lower case, with their parameters."""
    found: dict[str, str] = {}
    for line in reply.text.split("\n")[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        if keyword:
            found[keyword.lower()] = parameters
    return found
