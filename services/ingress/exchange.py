"""AUTH PLAIN and LOGIN through aiosmtpd's own coroutines, on lines that our reader has checked.

This is the only place where aiosmtpd's code runs. It asks for lines and sends challenges; what it
finds out are a user name and a password, and the decision is made elsewhere. Octets it does not
ask for stay in our reader, so nothing has to be taken back.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword, Session

from shared.smtp.errors import ProtocolError
from shared.smtp.lines import AUTH_LIMIT, LineFault, LineReader
from shared.smtp.server_replies import (
    AUTH_CANCELLED,
    AUTH_LINE_TOO_LONG,
    AUTH_SYNTAX,
    BARE_LINE_END,
)


class AuthExchange(SMTP):
    """The part of a session that speaks SASL. Its aiosmtpd base is never initialised.

    That constructor costs more than accepting a mail, and the exchange needs nothing of it.
    """

    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"

    lines: LineReader
    _line_waiter: asyncio.Future[None] | None

    def write(self, octets: bytes) -> None:
        """Send to the client."""
        raise NotImplementedError

    async def exchange(self, arguments: tuple[str, ...]) -> LoginPassword | None:
        """What the client presents; None if the exchange failed and that was answered.

        `arguments` are those of AUTH. Raises `ProtocolError`.
        """
        self.session = Session(asyncio.get_running_loop())
        plain = arguments[0] == "PLAIN"
        mechanism = self.auth_PLAIN if plain else self.auth_LOGIN
        self._reader = cast("asyncio.StreamReader", self)
        try:
            result = await mechanism(self, list(arguments))
        finally:
            del self._reader  # it was ourselves
        presented: LoginPassword | None = result.auth_data
        return presented

    async def external(self, arguments: tuple[str, ...]) -> bytes:
        """Whom the client wants to be by EXTERNAL, empty for whoever its certificate means.

        Raises `ProtocolError`.
        """
        if len(arguments) > 1:
            response = arguments[1].encode("latin-1").replace(b"=", b"", arguments[1] == "=")
        else:
            self.write(b"334 \r\n")
            response = await self.readline()
        if response == b"*":
            raise ProtocolError(AUTH_CANCELLED)
        try:
            return base64.b64decode(response, validate=True)
        except ValueError:
            raise ProtocolError(AUTH_SYNTAX) from None

    def wake_exchange(self) -> None:
        """Octets have come."""
        if self._line_waiter is not None and not self._line_waiter.done():
            self._line_waiter.set_result(None)

    # What aiosmtpd's mechanisms call.

    async def readline(self) -> bytes:
        """The client's next response. Raises `ProtocolError`."""
        while (line := self.lines.next(AUTH_LIMIT)) is None:
            self._line_waiter = asyncio.get_running_loop().create_future()
            await self._line_waiter
        if isinstance(line, LineFault):
            bare = line is LineFault.BARE_LINE_END
            raise ProtocolError(BARE_LINE_END if bare else AUTH_LINE_TOO_LONG)
        return line

    async def push(self, status: str | bytes) -> None:
        """Send one line."""
        octets = status.encode("ascii") if isinstance(status, str) else status
        self.write(octets + b"\r\n")

    def _authenticate(self, mechanism: str, auth_data: Any) -> AuthResult:
        return AuthResult(success=True, auth_data=auth_data)
