"""What a worker is to do about its partitions, as values; `membership` decides on them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.delivery.heartbeats import Heartbeat
from services.delivery.holding import Partition, Trace


class Why(StrEnum):
    """Why a partition is given up: a bounded set, used as a metric label."""

    MOVED = "moved"
    """To another worker, so that all have equally many."""
    LOST = "lost"
    """Another serves it, or may, since this worker was not heard for long."""
    LEAVING = "leaving"
    """The worker stops."""


@dataclass(frozen=True, slots=True)
class Take:
    """Serve this one; the fields are the arguments of `Holder.take`."""

    partition: Partition
    fresh: bool
    traces: tuple[Trace, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Serve this one no more; `Membership.given_up` is called when that is done."""

    partition: Partition
    why: Why


@dataclass(frozen=True, slots=True)
class Heed:
    """What others now have open of the partitions served here."""

    traces: tuple[Trace, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell all others, adding what remains of partitions that were given up here."""

    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class Died:
    """Another worker fell silent; for the log."""

    worker: str


Action = Take | GiveUp | Heed | Announce | Died
