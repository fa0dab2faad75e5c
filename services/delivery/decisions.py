"""What the scheduler decides (pure): plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from services.delivery.routes import Connection


class Open(msgspec.Struct, frozen=True, gc=False):
    """Open the connection for this job, which then begins on it."""

    connection: Connection
    item: Any


class Begin(msgspec.Struct, frozen=True, gc=False):
    """Send this job on this connection, now."""

    connection: Connection
    item: Any


class Close(msgspec.Struct, frozen=True, gc=False):
    """Close this connection, on which nothing is under way, and tell when it is closed."""

    connection: Connection


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """Stop opening this connection, and tell when that has failed; its job is given up first."""

    connection: Connection


class GiveBack(msgspec.Struct, frozen=True, gc=False):
    """Let this job come again after `delay_ms`, one of the wait steps, with this turn."""

    item: Any
    delay_ms: int
    turn: float
    reason: str


class Release(msgspec.Struct, frozen=True, gc=False):
    """Another worker will serve this job: let go of it at once."""

    item: Any


class Unreachable(msgspec.Struct, frozen=True, gc=False):
    """This job's hosts were just found not to answer, as `cause` says: it need not try."""

    item: Any
    cause: Any


Decision = Open | Begin | Close | Cancel | GiveBack | Release | Unreachable
