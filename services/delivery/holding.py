"""What serves partitions, as ownership sees it: take one, give one up, and tell what is left of it.

Limits hold across a hand-over because the one who gives up tells the next one what still counts:
connections that are still open, and those opened within the last minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

SLOT_SECONDS = 5.0
"""Length of one slot of `Trace.opened`."""


class Partition(NamedTuple):
    """One partition of a lane; its queues, two a class, are served together."""

    lane: str
    number: int


class Prefetch(NamedTuple):
    """Unsettled jobs of one queue at most: of those for jobs that come first, and again."""

    first: int
    again: int


class Trace(msgspec.Struct, frozen=True, array_like=True):
    """What a worker that gave a partition up knows of one site in it.

    `connections` are still open there; `opened` counts those opened within the last minute, in
    slots of `SLOT_SECONDS`, the youngest first.
    """

    lane: str
    number: int
    site: str
    connections: int = 0
    opened: tuple[int, ...] = ()


class Holder(Protocol):
    """Serves partitions. All methods are called on the loop."""

    def take(self, partition: Partition, *, fresh: bool, traces: Sequence[Trace] = ()) -> None:
        """Begin to serve.

        `fresh`: all that others did here within the last minute is told by `traces`, as far as
        anybody knows. Else one of them fell silent, and what is not told is assumed to have been
        used up to the limits.
        """

    async def give_up(self, partition: Partition) -> Sequence[Trace]:
        """Begin nothing more of it, stop its consumers, give back what has not begun.

        Returns once the next worker may take it; transactions under way go on.
        """

    def remains(self) -> Sequence[Trace]:
        """What is still open of partitions that were given up; empty when all is over."""

    def heed(self, remains: Sequence[Trace]) -> None:
        """The newest word of all others on what they still have open of partitions held here."""
