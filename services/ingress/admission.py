"""Whether one connection may become a session, and what it takes up until it ends.

It is asked as soon as a connection is accepted, before TLS.
"""

from __future__ import annotations

from services.ingress.context import Context
from services.ingress.policy import may_relay_from
from services.ingress.sessions import Session
from shared.smtp import server_replies as replies
from shared.smtp.server_replies import ServerReply


class Admission:
    """Of one session from `address`."""

    __slots__ = ("_address", "_context", "_entered", "_session")

    def __init__(self, context: Context, session: Session, address: str) -> None:
        self._context = context
        self._session = session
        self._address = address
        self._entered = False

    def refusal(self) -> ServerReply | None:
        """Why not; None and it counts until `leave`."""
        context, address = self._context, self._address
        sessions, crowd = context.sessions, context.crowd
        if sessions.draining:
            return replies.SHUTTING_DOWN
        if context.overload.active:
            return replies.OVERLOADED
        if may_relay_from(context.rules, address):
            return None if sessions.add(self._session) else replies.TOO_MANY_SESSIONS
        if not crowd.enter(address, sessions.now):
            return replies.TOO_MANY_OF_PLACE
        self._entered = True
        known = crowd.knows(address, sessions.now)
        if sessions.add(self._session, stranger=True, known=known):
            return None
        return replies.TOO_MANY_SESSIONS

    def trust(self) -> None:
        """The client has logged in: its place is known from now on."""
        self._context.sessions.trust(self._session)
        self._context.crowd.welcome(self._address, self._context.sessions.now)

    def leave(self) -> None:
        """The connection is gone."""
        self._context.sessions.remove(self._session)
        if self._entered:
            self._context.crowd.leave(self._address)
            self._entered = False
