"""What the scheduler is told of a job: a plain value."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from services.delivery.holding import Partition

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
