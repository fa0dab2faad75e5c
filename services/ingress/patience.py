"""How long a transaction may take, and how slowly its content may come (pure).

A client that says something now and then is never idle: without these it could hold a session, and
what was received of a mail, for days.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from shared.smtp.server_replies import TOO_LONG_A_TRANSACTION, TOO_SLOW, ServerReply

GRACE = 30.0
"""Seconds of a content before its rate counts."""


class Receiving(Protocol):
    """A content on its way."""

    @property
    def received(self) -> int:
        """Octets so far."""


@dataclass(frozen=True, slots=True)
class PatienceLimits:
    """Seconds of a transaction, and octets a second of a content; 0 for no limit."""

    transaction: float = 0.0
    rate: float = 0.0


class Patience:
    """Looks at one session from time to time. Times are monotonic seconds."""

    __slots__ = ("_content", "_content_since", "_limits", "_since", "_transaction")

    def __init__(self, limits: PatienceLimits) -> None:
        self._limits = limits
        self._transaction: object = None
        self._content: Receiving | None = None
        self._since = self._content_since = 0.0

    def overdue(
        self, now: float, transaction: object, content: Receiving | None
    ) -> ServerReply | None:
        """What to say if that which is under way in the session has taken too long."""
        if transaction is not self._transaction:
            self._transaction, self._since = transaction, now
        if content is not self._content:
            self._content, self._content_since = content, now
        limits = self._limits
        if transaction is not None and 0 < limits.transaction < now - self._since:
            return TOO_LONG_A_TRANSACTION
        lasted = now - self._content_since
        slow = content is not None and lasted > GRACE and content.received < limits.rate * lasted
        return TOO_SLOW if slow else None
