"""How many workers what waits here could keep busy (pure): more of them would change nothing.

A partition is served by one worker at a time, so it occupies one at most. It occupies as much of
that one as it uses, or would use at once if it might, of what a worker has: connections, and time.
Limits of sites hold for all workers together: what waits for them would wait as long elsewhere.
Decision 0018 gives the reasons.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass

from services.delivery.site_state import PartitionState, Site

WELL_USED = 0.7
"""Share of its time that a worker should be at work: above, others could take a part of it."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one partition is to its worker.

    `connections` are open or being opened, without the idle ones; `missing` are those that sites
    may have, and have jobs for, but the worker has none left. `ended` counts transactions since the
    last look. `waiting` jobs have not begun; `limited`: all of them wait for limits of their sites.
    """

    lane: str
    connections: int = 0
    missing: int = 0
    ended: int = 0
    waiting: int = 0
    limited: bool = False


def load_of(partition: PartitionState, starved: Container[Site], now: float, ours: float) -> Load:
    """What it is now; `ended` begins anew.

    `starved` sites wait for a connection of the worker. For `ours` seconds of each transaction we
    are busy ourselves.
    """
    connections = missing = waiting = 0
    free = False
    for site in partition.sites.values():
        connections += site.connections - len(site.idle) - site.closing
        if count := site.waiting:
            waiting += count
            free = free or not is_limited(site, now, ours)
            if site in starved:
                missing += max(0, min(site.allowed - site.connections, count))
    ended, partition.ended = partition.ended, 0
    limited = waiting > 0 and not free
    return Load(partition.key.lane, connections, missing, ended, waiting, limited)


def is_limited(site: Site, now: float, ours: float) -> bool:
    """Whether what waits there waits for limits, and not for us.

    That all connections are taken only says so if it is the site that makes transactions last.
    """
    per_minute = site.limits.connections_per_minute
    return (
        (site.connections >= site.allowed and site.seconds >= ours)
        or (site.pace is not None and site.pace.next > now)
        or 0 < per_minute <= site.window.used(now) + site.trying
    )


def useful_workers(
    loads: Collection[Load], most: int, busy: float, lanes: Iterable[str]
) -> Mapping[tuple[str, ...], float]:
    """By lane, how many workers the load of this one could occupy: its part of the whole sum.

    `most` connections are what a worker may have, and `busy` is the share of time, 0 to 1, that
    this one was at work since the last look.
    """
    by_connections: defaultdict[str, float] = defaultdict(float)
    by_time: defaultdict[str, float] = defaultdict(float)
    for load, part in zip(loads, _parts(loads), strict=True):
        by_connections[load.lane] += min(1.0, (load.connections + load.missing) / most)
        wanted = busy * part / (1 if load.limited else WELL_USED)
        by_time[load.lane] += min(1.0, wanted)
    return {(lane,): max(by_connections[lane], by_time[lane]) for lane in lanes}


def _parts(loads: Collection[Load]) -> list[float]:
    """Which part of the worker's time went to each: as many transactions as ended."""
    total = sum(load.ended for load in loads)
    return [load.ended / total if total else 1 / len(loads) for load in loads]
