"""What the scheduler remembers of a site: its ready jobs, connections and limits (pure).

Plain bookkeeping; `scheduler` decides. Jobs count by class: index True is transactional.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Any

from services.delivery.crowds import Crowd
from services.delivery.holding import Partition, Trace
from services.delivery.pacing import Pace, Window
from services.delivery.routes import NONE, Connection, Route
from services.delivery.turns import Calendar
from services.delivery.waiting import AGAIN, Waiting
from shared.plan.limits import Limits

FIRST_CONNECTIONS = 5
"""So many are opened to a site at first, and one more for each transaction that is over."""
GUESS = 0.02
"""Seconds that a transaction, or opening a connection, is taken to last before one was seen.

Little: it is better to hold too many at first than to send them away from a site that is idle.
"""
SHORTEST, LONGEST = 0.001, 10.0
"""Seconds that a transaction is taken to last, at least, and at most before one was seen to."""
SOON = 5.0
"""Seconds of a site's work that are held ready, if there is room."""
FASTER, SLOWER = 0.3, 0.02
"""Weight of the newest duration in the running mean: while we are busy ourselves many are long."""
SCANNED = 16
"""Routes or connections looked at for one that will do; the others' turn comes another time."""


class PartitionState:
    """A partition that is, or was, served here.

    `held` counts the jobs held, by queue, and `prefetch` has what each queue hands out at most.
    `ended` counts the transactions that are over.
    """

    __slots__ = (
        "ended",
        "fresh",
        "held",
        "key",
        "paused",
        "prefetch",
        "serving",
        "sites",
        "taken",
        "traces",
    )

    def __init__(self, key: Partition) -> None:
        self.key = key
        self.prefetch = [0] * (2 * AGAIN)
        self.sites: dict[str, Site] = {}
        self.serving = False
        self.paused = False
        self.fresh = True
        self.taken = 0.0
        self.held = [0] * (2 * AGAIN)
        self.ended = 0
        self.traces: dict[str, Trace] = {}


class Site:
    """One site in one partition. `sample` is what its limits are looked up by."""

    __slots__ = (
        "allowed", "backed_off", "calendars", "closing", "connections", "count", "crowd", "holding",
        "idle", "last", "limits", "name", "open_seconds", "opening", "own", "pace", "partition",
        "ramp", "residual", "routes", "sample", "seconds", "swept", "timer", "trying", "turns",
        "window",
    )  # fmt: skip

    def __init__(self, partition: PartitionState, name: str, sample: Any) -> None:
        self.partition = partition
        self.name = name
        self.sample = sample
        self.routes: dict[Hashable, Route] = {}
        self.turns: list[deque[Route]] = [NONE, NONE]
        self.count = [0, 0]
        self.own: deque[Waiting] = NONE
        self.holding: tuple[list[Connection], list[Connection]] = ([], [])
        self.backed_off: deque[Route] = NONE
        self.idle: dict[Connection, None] = {}
        self.opening: dict[Connection, None] = {}
        self.connections = self.closing = self.trying = 0
        self.residual = 0
        self.ramp = FIRST_CONNECTIONS
        self.allowed = 0
        self.limits = Limits()
        self.pace: Pace | None = None
        self.window = Window()
        self.calendars = (Calendar(), Calendar())
        self.crowd = Crowd()
        self.seconds = self.open_seconds = GUESS
        self.last = 0.0
        self.timer = self.swept = 0.0

    # Limits.

    def set_limits(self, limits: Limits, now: float) -> None:
        """Take these limits from now on."""
        self.limits = limits
        rate = limits.messages_per_second
        if not rate:
            self.pace = None
        elif self.pace is None:
            self.pace = Pace(rate, now)
        else:
            self.pace.change(rate, now)
        self.refresh()

    def refresh(self) -> None:
        """Compute how many connections there may be."""
        self.allowed = min(self.limits.connections - self.residual, self.ramp)

    def took(self, seconds: float, now: float) -> None:
        """A transaction that is over now lasted so long."""
        more = max(seconds, 0.0) - self.seconds
        self.seconds += more * (FASTER if more < 0 else SLOWER)
        self.last = now

    def took_to_open(self, seconds: float, now: float) -> None:
        """Opening a connection lasted so long until now."""
        more = max(seconds, 0.0) - self.open_seconds
        self.open_seconds += more * (FASTER if more < 0 else SLOWER)
        self.last = now

    def rate(self, now: float, ours: float) -> float:
        """Jobs a second that the site takes, as limits and measured durations say.

        While something is under way and nothing ends, each transaction is known to take longer
        and longer; for `ours` of that time we may have been busy ourselves.
        """
        limits = self.limits
        each = self.seconds + self.open_seconds / limits.messages_per_connection
        if self.connections > len(self.idle) + self.closing:
            each = max(each, min(now - self.last - ours, LONGEST))
        each = max(each, SHORTEST)
        rate = limits.connections / each
        if limits.messages_per_second and limits.messages_per_second < rate:
            rate = limits.messages_per_second
        if limits.connections_per_minute:
            left = limits.connections_per_minute - self.window.total
            a_second = max(limits.connections_per_minute / 60, left / SOON)
            rate = min(rate, a_second * limits.messages_per_connection)
        return rate

    # Ready jobs.

    @property
    def waiting(self) -> int:
        """Jobs that wait for a connection."""
        return self.count[0] + self.count[1] + len(self.own)

    def route(self, key: Hashable) -> Route:
        """The route of that key, perhaps a new one."""
        route = self.routes.get(key)
        if route is None:
            route = self.routes[key] = Route(key)
        return route

    def push(self, item: Waiting, route: Route, *, first: bool = False) -> None:
        """The job is ready."""
        urgent = item.urgent
        ready = route.ready[urgent]
        if ready is NONE:
            ready = route.ready[urgent] = deque()
        if first:
            ready.appendleft(item)
        else:
            ready.append(item)
        self.count[urgent] += 1
        if not route.listed[urgent]:
            route.listed[urgent] = True
            if self.turns[urgent] is NONE:
                self.turns[urgent] = deque()
            self.turns[urgent].append(route)

    def push_own(self, item: Waiting) -> None:
        """The job is ready for a connection of its own."""
        if self.own is NONE:
            self.own = deque()
        self.own.append(item)

    def pop(self, route: Route, urgent: int) -> Waiting:
        """The next ready job of a route; there is one."""
        self.count[urgent] -= 1
        return route.ready[urgent].popleft()

    def pop_newest(self, urgent: int, queue: int) -> Waiting | None:
        """One of the jobs of that queue that came last, if any waits."""
        for route in reversed(self.turns[urgent]):
            ready = route.ready[urgent]
            for index in range(len(ready) - 1, -1, -1):
                item = ready[index]
                if item.queue == queue:
                    del ready[index]
                    self.count[urgent] -= 1
                    return item
        return None

    def next_route(self, urgent: int, *, idle: bool) -> Route | None:
        """The route that has waited longest with a ready job, and with an idle connection or not.

        One that cannot be reached lately is tried by one job at a time.
        """
        turns = self.turns[urgent]
        for _ in range(min(len(turns), SCANNED)):
            route = turns[0]
            if not route.ready[urgent]:
                turns.popleft()
                route.listed[urgent] = False
                continue
            turns.rotate(-1)
            if bool(route.idle) is idle and not (route.failures and route.opening):
                return route
        return None

    # Connections.

    def take_idle(self, route: Route) -> Connection:
        """The connection that became idle last; there is one."""
        connection = route.idle.pop()
        del self.idle[connection]
        return connection

    def leave_idle(self, connection: Connection) -> None:
        """The connection is not idle any more."""
        connection.route.idle.remove(connection)
        del self.idle[connection]

    def back_off(self, route: Route, until: float, cause: Any) -> None:
        """Nobody tries this route before `until`."""
        route.failures += 1
        route.closed_until, route.cause = until, cause
        if self.backed_off is NONE:
            self.backed_off = deque()
        self.backed_off.append(route)

    def forget_backed_off(self, before: float) -> None:
        """Forget the routes that were tried again, or could have been, before that time."""
        while self.backed_off and self.backed_off[0].closed_until <= before:
            route = self.backed_off.popleft()
            if not route.connections:
                route.failures = 0
            self.forget_route(route)

    def spare(self, *, pressing: bool) -> Connection | None:
        """The oldest idle connection that its own route does not need (as much, if `pressing`)."""
        for connection in itertools.islice(self.idle, SCANNED):
            ready = connection.route.ready
            if not ready[1] and (pressing or not ready[0]):
                return connection
        return None

    def forget_route(self, route: Route) -> None:
        """Forget a route that has nothing any more."""
        if not (route.connections or route.failures or route.ready[0] or route.ready[1]):
            self.routes.pop(route.key, None)

    def is_over(self, now: float) -> bool:
        """Whether nothing is left that the site has to be remembered for."""
        return not (
            self.connections
            or self.waiting
            or self.residual
            or self.backed_off
            or self.window.used(now)
            or (self.pace is not None and self.pace.next > now)
            or any(calendar.end > now for calendar in self.calendars)
        )

    def trace(self, now: float) -> Trace:
        """What another worker should know. A connection that is being opened counts as opened."""
        lane, number = self.partition.key
        opened = self.window.counts(now)
        if self.opening:
            opened = (sum(opened[:1]) + self.trying, *opened[1:])
        return Trace(lane, number, self.name, self.connections, opened)


def traces_of(sites: Sequence[Site], now: float) -> list[Trace]:
    """Of all sites of which there is something to tell."""
    traces = (site.trace(now) for site in sites)
    return [trace for trace in traces if trace.connections or trace.opened]
