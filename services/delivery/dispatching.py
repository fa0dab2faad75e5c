"""What a site does next (pure): begin on a connection that is there, open one, make room for one.

Transactional jobs go first. A connection serves the jobs of its own route; a slot that becomes free
goes to the route that has waited longest.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from services.delivery.decisions import (
    Begin,
    Close,
    Decision,
    GiveBack,
    Open,
    Unreachable,
    Waiting,
)
from services.delivery.site_state import SOON, Connection, Route, Site, State
from services.delivery.turns import wait_step

HELD = 60.0
"""Seconds that a job is held at most before it begins: brokers do not let one hold for ever."""
QUICK = 1.0
"""Seconds that a job may wait however crowded the queue is that it came from."""
SHARE = 2
"""A site may hold so many times what is left of a queue's prefetch: some is always left."""
AHEAD = 1.0
"""Seconds before the time of its first message that a connection may be opened."""
PATIENCE = 10.0
"""Seconds after which a route that waits gets the connection of another that is still busy."""
MINUTE = 60.0


class Dispatching:
    """Decides for one site at a time. `idle_timeout` in seconds."""

    def __init__(self, idle_timeout: float) -> None:
        self._idle_timeout = idle_timeout
        self._heap: list[tuple[float, int, Site]] = []
        self._numbers = itertools.count()
        self._idle: deque[tuple[float, Connection]] = deque()
        self._decided: list[Decision] = []
        self.ours = 0.0
        """Seconds by which a transaction takes longer at present since we are busy."""

    def decisions(self) -> Sequence[Decision]:
        """What was decided since the last call, in order."""
        decided = self._decided
        if decided:
            self._decided = []
        return decided

    @property
    def wake(self) -> float:
        """When the next tick is due; infinite if nothing waits for time to pass."""
        at = self._heap[0][0] if self._heap else math.inf
        return min(at, self._idle[0][0]) if self._idle else at

    def _arm(self, site: Site, at: float) -> None:
        """Look at the site again then, or before."""
        if not site.timer or at < site.timer:
            site.timer = at
            heapq.heappush(self._heap, (at, next(self._numbers), site))

    # Jobs that come.

    def _admit(self, site: Site, item: Waiting, now: float) -> bool:
        """Whether the job may wait here. If not, it is given back."""
        urgent, count, partition = item.urgent, site.count, site.partition
        if not (count[0] or count[1]):
            return True
        rate = site.rate(now, self.ours)
        start = now + (count[1] if urgent else count[0] + count[1]) / rate
        calendar = site.calendars[urgent]
        room = max(2.0 * site.limits.connections, SOON * rate)
        if calendar.is_early(item.turn, start):
            room /= 2
        if count[urgent] < room:
            holds = site.connections + count[urgent]
            free = partition.prefetch - partition.held[urgent]
            if start - now < QUICK or holds <= SHARE * free:
                return True
        self._give_back(item, calendar.reserve(item.turn, start, rate), now, "limit")
        return False

    def _give_back(self, item: Waiting, turn: float, now: float, reason: str) -> None:
        self._decided.append(GiveBack(item, wait_step(turn - now), turn, reason))

    def _sweep(self, site: Site, now: float) -> None:
        """Give back what was held long enough."""
        before = now - HELD
        while site.own and site.own[0].since < before:
            self._too_late(site, site.own.popleft(), now)
        for urgent in (1, 0):
            for route in list(site.turns[urgent]):
                ready = route.ready[urgent]
                while ready and ready[0].since < before:
                    self._too_late(site, site.pop(route, urgent), now)

    def _too_late(self, site: Site, item: Waiting, now: float) -> None:
        site.partition.held[item.urgent] -= 1
        turn = site.calendars[item.urgent].reserve(item.since, now, site.rate(now, self.ours))
        self._give_back(item, turn, now, "late")

    def _end_ready(self, site: Site, route: Route, cause: Any) -> None:
        for urgent in (1, 0):
            while route.ready[urgent]:
                item = site.pop(route, urgent)
                site.partition.held[urgent] -= 1
                self._decided.append(Unreachable(item, cause))

    # What a site does next.

    def _dispatch(self, site: Site, now: float) -> None:
        if site.partition.paused:
            return
        count, holding, pace = site.count, site.holding, site.pace
        while holding[1] or holding[0] or (site.idle and (count[1] or count[0])):
            if pace is not None and pace.next > now:
                self._arm(site, pace.next)
                break
            if not self._begin_next(site, now):
                break
        while (count[0] or count[1] or site.own) and self._open_next(site, now):
            pass
        if not site.timer and (count[0] or count[1] or site.own):
            self._arm(site, now + HELD / 4)

    def _begin_next(self, site: Site, now: float) -> bool:
        for urgent in (1, 0):
            holding = site.holding[urgent]
            if holding:
                connection = holding.pop(0)
                item = connection.item
                assert item is not None
                self._begin(connection, item, now)
                return True
            if site.idle and site.count[urgent]:
                route = site.next_route(urgent, idle=True)
                if route is not None:
                    item = site.pop(route, urgent)
                    self._begin(site.take_idle(route), item, now)
                    return True
        return False

    def _begin(self, connection: Connection, item: Waiting, now: float) -> None:
        connection.item = item
        connection.state = State.BUSY
        connection.since = now
        site = connection.site
        if site.connections - len(site.idle) - site.closing == 1:
            site.last = now
        pace = site.pace
        if pace is not None:
            pace.spend(now)
        self._decided.append(Begin(connection, item))

    def _open_next(self, site: Site, now: float) -> bool:
        if not self._may_open(site, now):
            return False
        if site.connections >= site.allowed:
            self._make_room(site)
            return False
        if site.own:
            item = site.own.popleft()
            route = site.route(item.route)
        else:
            urgent = 1
            found = site.next_route(1, idle=False)
            if found is None:
                urgent = 0
                found = site.next_route(0, idle=False)
                if found is None:
                    return False
            route = found
            item = site.pop(route, urgent)
        self._open(site, route, item, now)
        return True

    def _open(self, site: Site, route: Route, item: Waiting, now: float) -> None:
        connection = Connection(site, route, item, now)
        if site.connections == len(site.idle) + site.closing:
            site.last = now
        site.connections += 1
        site.opening[connection] = None
        site.trying += 1
        route.connections += 1
        route.opening += 1
        self._decided.append(Open(connection, item))

    def _may_open(self, site: Site, now: float) -> bool:
        """Whether time permits: connections a minute, and whether a job could begin soon."""
        per_minute = site.limits.connections_per_minute
        if per_minute:
            used = site.window.used(now)
            if used + site.trying >= per_minute:
                if used:
                    self._arm(site, site.window.changes_at())
                return False
        pace = site.pace
        if pace is not None:
            ahead = len(site.opening) + len(site.holding[0]) + len(site.holding[1])
            at = pace.next + ahead * pace.interval - AHEAD
            if at > now:
                if not ahead:
                    self._arm(site, at)
                return False
        return True

    def _make_room(self, site: Site) -> None:
        """Every slot is taken, but perhaps by a connection that lies idle."""
        count = site.count
        if site.closing < count[0] + count[1] + len(site.own):
            pressing = bool(site.own or count[1])
            connection = site.spare(pressing=pressing)
            if connection is not None:
                site.leave_idle(connection)
                self._close(connection)

    def _yields(self, connection: Connection, now: float) -> bool:
        """Whether the slot of a connection that is free now should go to others that wait."""
        site, route = connection.site, connection.route
        if route.ready[1] and not site.own:
            return False
        pressing = len(site.own) + site.count[1] - len(route.ready[1])
        turns = site.turns[0]
        if not pressing and turns and turns[0] is not route and turns[0].ready[0]:
            pressing = int(turns[0].ready[0][0].since < now - PATIENCE)
        return (
            pressing > site.closing
            and site.connections >= site.allowed
            and self._may_open(site, now)
        )

    # Ends of connections.

    def _close(self, connection: Connection) -> None:
        self._closing(connection)
        self._decided.append(Close(connection))

    def _closing(self, connection: Connection) -> None:
        connection.state = State.CLOSING
        connection.site.closing += 1

    def _rest(self, connection: Connection, now: float) -> None:
        connection.state = State.IDLE
        connection.since = now
        connection.route.idle.append(connection)
        connection.site.idle[connection] = None
        if not connection.listed:
            connection.listed = True
            self._idle.append((now + self._idle_timeout, connection))

    def _expire(self, connection: Connection, now: float) -> None:
        """The connection was idle at times, perhaps not long enough."""
        at = connection.since + self._idle_timeout
        if at <= now:
            connection.site.leave_idle(connection)
            self._close(connection)
        else:
            connection.listed = True
            self._idle.append((at, connection))

    def _shrink(self, site: Site) -> None:
        """Close what is idle beyond limits that have changed."""
        limits = site.limits
        most = limits.connections - site.residual
        for connection in list(site.idle):
            worn = connection.served >= limits.messages_per_connection
            if worn or site.connections - site.closing > most:
                site.leave_idle(connection)
                self._close(connection)

    def _let_go(self, connection: Connection) -> None:
        """The connection has no job any more."""
        item, connection.item = connection.item, None
        if item is not None:
            connection.site.partition.held[item.urgent] -= 1

    def _made(self, connection: Connection, now: float) -> None:
        """Opening is over."""
        site, route = connection.site, connection.route
        del site.opening[connection]
        site.trying -= connection.tries
        route.opening -= 1
        site.window.record(now, connection.tries)

    def _gone(self, connection: Connection, now: float) -> None:
        site, route = connection.site, connection.route
        if connection.state is State.CLOSING:
            site.closing -= 1
        connection.state = State.CLOSED
        site.connections -= 1
        route.connections -= 1
        if not route.connections:
            site.forget_route(route)
            if not site.connections:
                self._arm(site, now + MINUTE)
