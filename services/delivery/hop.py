"""A connection to a next hop that is past EHLO: aiosmtplib's client around our protocol.

Connecting and STARTTLS are the library's. EHLO is ours, since it is said once a connection, and
the list of extensions is all that is wanted of its reply.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from aiosmtplib import SMTP, SMTPConnectResponseError, SMTPResponse, SMTPServerDisconnected
from aiosmtplib.errors import SMTPHeloError

from services.delivery.candidates import Candidate
from services.delivery.client import PipelinedProtocol
from shared.messages.outcome import Outcome
from shared.settings.sending import TimeoutSettings
from shared.smtp.replies import Reply


class NextHop(SMTP):
    """Connects to `place`.

    `served` counts transactions, `better_failure` is the transient failure of a better mail
    exchanger than `place`, if any. `esmtp_extensions` has the keywords in lower case.
    """

    protocol: PipelinedProtocol | None
    served = 0
    better_failure: Outcome | None = None

    def __init__(
        self,
        place: Candidate,
        hostname: str,
        timeouts: TimeoutSettings,
        before_leave: Callable[[NextHop], None],
    ) -> None:
        super().__init__(
            hostname=place.address, port=place.port, local_hostname=hostname, start_tls=False
        )
        self.place = place
        self.timeouts = timeouts
        self._before_leave = before_leave
        self._hello = hostname.encode("ascii")

    @property
    def link(self) -> PipelinedProtocol:
        """The connection. Raises SMTPServerDisconnected if there is none."""
        if self.protocol is None:
            raise SMTPServerDisconnected("not connected")
        return self.protocol

    async def _create_connection(self, timeout: float | None) -> SMTPResponse:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.timeouts.connect / 1000):
            self.transport, self.protocol = await loop.create_connection(
                lambda: PipelinedProtocol(loop, self._on_connection_lost),
                host=self.place.address,
                port=self.place.port,
            )
        response = await self.protocol.read_response(self.timeouts.greeting / 1000)
        if response.code != 220:
            raise SMTPConnectResponseError(response.code, response.message)
        return response

    async def greet(self) -> None:
        """EHLO, or HELO where that is refused. Raises SMTPException."""
        reply = await self._say(b"EHLO")
        if reply.code == 250:
            self.esmtp_extensions = extensions(reply)
            return
        self.esmtp_extensions = {}
        if reply.permanent:
            reply = await self._say(b"HELO")
        if reply.code != 250:
            raise SMTPHeloError(reply.code, str(reply).partition(" ")[2])

    async def _say(self, verb: bytes) -> Reply:
        link = self.link
        seconds = (self.timeouts.ehlo / 1000,)
        (reply,) = await link.ask(b"%b %b\r\n" % (verb, self._hello), seconds)
        link.check(reply)
        return reply

    async def secure(self, context: ssl.SSLContext) -> None:
        """STARTTLS, then EHLO anew (RFC 3207, 4.2). Raises SMTPException, OSError, ValueError."""
        link = self.link
        await link.start_tls(context, self.place.host, timeout=self.timeouts.tls / 1000)
        self.transport = link.transport
        await self.greet()

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """What tells about TLS, None in clear text."""
        if self.transport is None:
            return None
        found: ssl.SSLObject | None = self.transport.get_extra_info("ssl_object")
        return found

    async def leave(self) -> None:
        """QUIT, where somebody is left to hear it; then close."""
        link = self.protocol
        if link is not None and link.usable:
            self._before_leave(self)
            await link.ask(b"QUIT\r\n", (self.timeouts.quit / 1000,))
        self.close()


def extensions(reply: Reply) -> dict[str, str]:
    """The keywords of an EHLO reply, in lower case, with their parameters."""
    found: dict[str, str] = {}
    for line in reply.text.split("\n")[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        found[keyword.lower()] = parameters
    return found
