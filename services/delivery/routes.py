"""The connections of a site, and the ready jobs of each of its routes (pure bookkeeping)."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from services.delivery.waiting import Waiting

if TYPE_CHECKING:
    from services.delivery.site_state import Site

NONE: deque[Any] = deque()
"""Stands for a queue that nothing was put into yet: most sites never need most of theirs."""


class State(IntEnum):
    """Of a connection. HOLDING: open, with a job that waits for its time to begin."""

    OPENING = 0
    HOLDING = 1
    BUSY = 2
    IDLE = 3
    CLOSING = 4
    CLOSED = 5


class Connection:
    """A connection of a site. Only the scheduler changes it.

    `since` is when its state began; `tries` counts the connections made to have this one.
    """

    __slots__ = ("item", "listed", "route", "served", "since", "site", "state", "tries")

    def __init__(self, site: Site, route: Route, item: Waiting, now: float) -> None:
        self.site = site
        self.route = route
        self.item: Waiting | None = item
        self.state = State.OPENING
        self.served = 0
        self.since = now
        self.listed = False
        self.tries = 1


class Route:
    """One set of exchangers of a site: ready jobs, and idle connections, the newest last.

    `failures` counts how often opening failed in a row, last with `cause`; until `closed_until`
    nobody tries again.
    """

    __slots__ = ("cause", "closed_until", "connections", "failures", "idle", "key", "listed",
                 "opening", "ready")  # fmt: skip

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.ready: list[deque[Waiting]] = [NONE, NONE]
        self.listed = [False, False]
        self.idle: list[Connection] = []
        self.connections = 0
        self.opening = 0
        self.failures = 0
        self.closed_until = 0.0
        self.cause: Any = None
