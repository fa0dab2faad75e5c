"""What the scheduler is told of a job, and what it decides (pure): plain values."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import msgspec

from services.delivery.holding import Partition

if TYPE_CHECKING:
    from services.delivery.routes import Connection

AGAIN = 2
"""A partition has four queues: 0 and 1 by class, and as many of jobs that come again."""


class Waiting:
    """A job as the scheduler sees it.

    `route` tells which idle connections may take it. `turn` is its reserved turn, 0 for none, and
    `since` when it began to wait, 0 if it does not; both in monotonic seconds. `queue` is the
    number of the queue in which it came: its class, and `AGAIN` more for jobs that come again.
    When it is sent away, `crowd` tells that nobody waits for it.
    """

    __slots__ = ("crowd", "partition", "queue", "route", "since", "site", "turn", "urgent")

    def __init__(
        self,
        partition: Partition,
        site: str,
        route: Hashable,
        *,
        urgent: bool,
        again: bool = False,
        turn: float = 0.0,
    ) -> None:
        self.partition = partition
        self.site = site
        self.route = route
        self.urgent = urgent
        self.queue = urgent + AGAIN * again
        self.turn = turn
        self.since = 0.0
        self.crowd = False

    @property
    def sample(self) -> Any:
        """What the limits of its site are looked up by."""
        return self.site


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
