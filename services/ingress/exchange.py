"""The octets of a SASL exchange (RFC 4954, 4), on lines that our reader has checked.

LOGIN goes through aiosmtpd's own coroutine: this is the only place where its code runs. What comes
out is what the client claims, and the decision is made elsewhere. Octets that nobody asks for stay
in our reader, so nothing has to be taken back.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword, Session

from services.ingress.policy import EXTERNAL, OAUTHBEARER
from services.ingress.sasl import Claim, PasswordClaim, parse_bearer, parse_external, parse_plain
from shared.smtp.errors import ProtocolError
from shared.smtp.lines import AUTH_LIMIT, LineFault, LineReader
from shared.smtp.server_replies import (
    AUTH_CANCELLED,
    AUTH_LINE_TOO_LONG,
    AUTH_RESPONSE,
    BARE_LINE_END,
)

_PARSERS: dict[str, Callable[[bytes], Claim]] = {
    "PLAIN": parse_plain,
    EXTERNAL: parse_external,
    OAUTHBEARER: parse_bearer,
}


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

    async def claim(self, arguments: tuple[str, ...]) -> Claim:
        """What the client claims; `arguments` are those of AUTH. Raises `ProtocolError`."""
        mechanism, *initial = arguments
        response = _decoded(initial[0].encode("latin-1")) if initial else None
        if mechanism == "LOGIN":
            return await self._ask_login(response)
        if response is None:
            response = await self.challenge_auth(b"")
        return _PARSERS[mechanism](response)

    async def _ask_login(self, username: bytes | None) -> PasswordClaim:
        self.session = Session(asyncio.get_running_loop())
        initial = [] if username is None else [base64.b64encode(username).decode("ascii")]
        result = await self.auth_LOGIN(self, ["LOGIN", *initial])
        presented = cast("LoginPassword", result.auth_data)
        return PasswordClaim(presented.login, presented.password)

    def wake_exchange(self) -> None:
        """Octets have come."""
        if self._line_waiter is not None and not self._line_waiter.done():
            self._line_waiter.set_result(None)

    async def _readline(self) -> bytes:
        while (line := self.lines.next(AUTH_LIMIT)) is None:
            self._line_waiter = asyncio.get_running_loop().create_future()
            await self._line_waiter
        if isinstance(line, LineFault):
            bare = line is LineFault.BARE_LINE_END
            raise ProtocolError(BARE_LINE_END if bare else AUTH_LINE_TOO_LONG)
        return line

    # What aiosmtpd's mechanism calls.

    async def challenge_auth(
        self,
        challenge: str | bytes,
        encode_to_b64: bool = True,
        log_client_response: bool = False,
    ) -> bytes:
        """The client's response. Raises `ProtocolError`."""
        octets = challenge.encode() if isinstance(challenge, str) else challenge
        self.write(b"334 " + base64.b64encode(octets) + b"\r\n")
        return _decoded(await self._readline())

    def _authenticate(self, mechanism: str, auth_data: Any) -> AuthResult:
        return AuthResult(success=True, auth_data=auth_data)


def _decoded(response: bytes) -> bytes:
    if response == b"*":
        raise ProtocolError(AUTH_CANCELLED)
    try:
        return base64.b64decode(b"" if response == b"=" else response, validate=True)
    except ValueError:
        raise ProtocolError(AUTH_RESPONSE) from None
