"""The decision on what a client claims to be, and how often it may try."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from services.ingress.authenticator import Authenticator, Grant
from services.ingress.credentials import Credential
from services.ingress.crowding import places
from services.ingress.jwt import InvalidToken
from services.ingress.oauth import TokenVerifier
from services.ingress.passwords import Busy
from services.ingress.sasl import CertificateClaim, Claim, PasswordClaim, TokenClaim
from services.ingress.throttle import Throttle, Verdict
from shared.logs import get_logger
from shared.smtp.server_replies import (
    AUTH_BUSY,
    AUTH_DEFERRED,
    AUTH_FAILED,
    TOO_MANY_GUESSES,
    ServerReply,
)

_REFUSALS = {
    Verdict.ACCOUNT_DEFERRED: AUTH_DEFERRED,
    Verdict.PLACE_BLOCKED: TOO_MANY_GUESSES,
}


class Authentication:
    """Decides for all sessions of the process. `tokens` is None where none are taken.

    `clock` gives epoch seconds: tokens end at a time of day.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        throttle: Throttle,
        tokens: TokenVerifier | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._authenticator = authenticator
        self._throttle = throttle
        self._tokens = tokens
        self._clock = clock

    async def decide(
        self, claim: Claim, address: str, certificate_names: Sequence[str] = ()
    ) -> Grant | ServerReply:
        """Who it is, or the reply: that to a wrong claim comes later each time."""
        place, account = places(address)[0], claim.username
        now = asyncio.get_running_loop().time
        verdict = self._throttle.verdict(place, account, now())
        if verdict is not Verdict.TRY:
            get_logger().warning("authentication refused", client=address, reason=verdict.value)
            return _REFUSALS[verdict]
        try:
            grant = await self._check(claim, place, certificate_names)
        except Busy:
            return AUTH_BUSY
        except asyncio.CancelledError:
            # Who leaves before he is answered has had his check all the same.
            self._throttle.failed(place, account, now())
            raise
        if isinstance(grant, Grant):
            self._throttle.succeeded(place, grant.user.username.encode(), now())
            return grant
        delay = self._throttle.failed(place, account, now())
        get_logger().warning(
            "authentication failed", client=address, reason=grant, delay_seconds=delay
        )
        await asyncio.sleep(delay)
        return AUTH_FAILED

    async def _check(self, claim: Claim, place: str, names: Sequence[str]) -> Grant | str:
        """Who it is, or why nobody. Raises `Busy`."""
        users = self._authenticator
        if isinstance(claim, PasswordClaim):
            found = await users.check(claim.username, claim.password, place)
            return found or "wrong name or password"
        if isinstance(claim, CertificateClaim):
            found = users.by_certificate(names, claim.username)
            return found or f"the certificate means nobody: {', '.join(names)}"
        return self._check_token(claim)

    def _check_token(self, claim: TokenClaim) -> Grant | str:
        assert self._tokens is not None
        if not claim.token:
            return "no token"
        try:
            identity = self._tokens.verify(claim.token, self._clock())
        except InvalidToken as error:
            return f"token: {error}"
        found = self._authenticator.by_token(identity, claim.username)
        return found or "token: it names no user who may log in so"

    def holds(self, grant: Grant) -> bool:
        """Whether the user is still in the file as he was, and his token has not ended."""
        return self._authenticator.knows(grant.credential) and self._clock() < grant.until

    def renew(self, credentials: Iterable[Credential]) -> None:
        """Know these users, and no others, from now on."""
        self._authenticator.renew(credentials)

    def close(self) -> None:
        """End the threads that check passwords."""
        self._authenticator.close()
