"""What AUTH comes to in one session: the reply, who it is, and the count of failures."""

from __future__ import annotations

from services.ingress.authentication import Authentication
from services.ingress.dialogue import Dialogue
from services.ingress.exchange import AuthExchange
from services.ingress.oauth import FAILURE
from services.ingress.policy import MOST_AUTH_FAILURES, OAUTHBEARER
from services.ingress.sasl import Claim
from shared import metrics
from shared.logs import get_logger
from shared.smtp import server_replies as replies
from shared.smtp.errors import ProtocolError
from shared.smtp.server_replies import ServerReply

_RESULTS = {
    replies.AUTH_OK: "success",
    replies.AUTH_FAILED: "wrong",
    replies.AUTH_DEFERRED: "throttled",
    replies.TOO_MANY_GUESSES: "throttled",
    replies.AUTH_BUSY: "busy",
    replies.TOO_MANY_OF_USER: "sessions",
    replies.AUTH_CANCELLED: "cancelled",
    replies.AUTH_TROUBLE: "trouble",
}
"""How a reply is counted; all others are to a malformed exchange."""


class Login:
    """The AUTH commands of one session."""

    __slots__ = ("_authentication", "_failures")

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication
        self._failures = 0

    @property
    def is_over(self) -> bool:
        """Whether the session has failed too often."""
        return self._failures >= MOST_AUTH_FAILURES

    async def answer(self, exchange: AuthExchange, dialogue: Dialogue) -> ServerReply:
        """The reply to the AUTH command that `dialogue` has taken; it learns who the user is."""
        arguments, dialogue.auth_argument = dialogue.auth_argument, ()
        try:
            claim = await exchange.claim(arguments)
            reply = await self._decide(claim, dialogue)
            if reply is replies.AUTH_FAILED and arguments[0] == OAUTHBEARER:
                await _tell_failure(exchange)
        except ProtocolError as error:
            reply = error.reply
        except Exception as error:
            # Only its kind: the text might hold what the client presented.
            get_logger().error("authentication not possible", error=type(error).__name__)
            reply = replies.AUTH_TROUBLE
        self._failures += reply is replies.AUTH_FAILED
        metrics.count_auth(arguments[0], _RESULTS.get(reply, "malformed"))
        return reply

    async def _decide(self, claim: Claim, dialogue: Dialogue) -> ServerReply:
        authentication = self._authentication
        found = await authentication.decide(claim, dialogue.address, dialogue.certificate_names)
        if isinstance(found, ServerReply):
            return found
        entered = dialogue.authenticated(found.user, lambda: authentication.holds(found))
        return replies.AUTH_OK if entered else replies.TOO_MANY_OF_USER


async def _tell_failure(exchange: AuthExchange) -> None:
    """The client gets an error as a challenge, and its answer tells nothing (RFC 7628, 3.2.3)."""
    try:
        await exchange.challenge_auth(FAILURE)
    except ProtocolError:
        return
