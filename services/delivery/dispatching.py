"""What a site does next (pure): begin on a connection that is there, open one, make room for one.

Transactional jobs go first. A connection serves the jobs of its own route; a slot that becomes free
goes to the route that has waited longest.
"""

from __future__ import annotations

from services.delivery.admission import SWEEP, Admission
from services.delivery.decisions import Begin, Close, Open
from services.delivery.routes import Connection, Route, State
from services.delivery.site_state import Site
from services.delivery.waiting import Waiting

AHEAD = 1.0
"""Seconds before the time of its first message that a connection may be opened."""
PATIENCE = 10.0
"""Seconds after which a route that waits gets the connection of another that is still busy."""
MINUTE = 60.0


class Dispatching(Admission):
    """Decides for one site at a time; all sites together have at most `most` connections."""

    def __init__(self, idle_timeout: float, most: int) -> None:
        super().__init__(idle_timeout)
        self._room = most
        self._starved: dict[Site, None] = {}

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
            self._arm(site, now + SWEEP)

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
        if self._room <= 0:
            self._starve(site)
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
        self._room -= 1
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
        if self._starved and not connection.site.waiting:
            self._close(connection)
            return
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
            connection.site.partition.held[item.queue] -= 1

    def _made(self, connection: Connection, now: float) -> None:
        """Opening is over."""
        site, route = connection.site, connection.route
        del site.opening[connection]
        site.trying -= connection.tries
        route.opening -= 1
        site.window.record(now, connection.tries)

    def _starve(self, site: Site) -> None:
        """The worker has all the connections it may have: the site gets the next that ends."""
        if site in self._starved:
            return
        self._starved[site] = None
        while self._idle:
            connection = self._idle.popleft()[1]
            connection.listed = False
            if connection.state is State.IDLE:
                connection.site.leave_idle(connection)
                self._close(connection)
                return

    def _feed(self, now: float) -> None:
        """Connections have ended: the sites that waited for one go on, in their order."""
        while self._room > 0 and self._starved:
            site = next(iter(self._starved))
            del self._starved[site]
            self._dispatch(site, now)

    def _gone(self, connection: Connection, now: float) -> None:
        site, route = connection.site, connection.route
        if connection.state is State.CLOSING:
            site.closing -= 1
        connection.state = State.CLOSED
        self._room += 1
        site.connections -= 1
        route.connections -= 1
        if not route.connections:
            site.forget_route(route)
            if not site.connections:
                self._arm(site, now + MINUTE)
