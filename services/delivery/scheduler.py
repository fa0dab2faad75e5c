"""What may start now, and when next (pure): a state machine fed with events and a clock.

One for each worker, for all sites of all partitions that it serves. What an event decides is
returned by `decisions`; `wake` tells when `tick` is due. Times are monotonic seconds. A step takes
O(log n) of all sites.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from services.delivery.admission import SWEEP
from services.delivery.decisions import Begin, Release
from services.delivery.demand import Load, load_of
from services.delivery.dispatching import MINUTE
from services.delivery.routes import Connection, Route, State
from services.delivery.serving import Serving
from services.delivery.site_state import Site
from services.delivery.waiting import Waiting
from shared.plan.limits import Limits

BACK_OFF = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds for which nobody tries hosts again that do not answer."""


class Scheduler(Serving):
    """All sites of one worker; its methods are what happens."""

    def set_limits(self, limits_of: Callable[[Any], Limits], now: float) -> None:
        """Other limits, for all sites, from now on."""
        self._limits_of = limits_of
        for site in self._sites():
            site.set_limits(limits_of(site.sample), now)
            self._shrink(site)
            self._dispatch(site, now)

    # Jobs.

    def arrive(self, item: Waiting, now: float) -> None:
        """A job came: it begins, waits, is given back, or shares the fate of its hosts."""
        partition = self._partitions.get(item.partition)
        if partition is None or not partition.serving:
            self._decided.append(Release(item))
            return
        site = partition.sites.get(item.site) or self._new_site(partition, item, now)
        route = site.routes.get(item.route) or site.route(item.route)
        if route.closed_until > now:
            self._turn_away(site, item, route.cause, now)
        elif route.idle and site.pace is None and not partition.paused:
            partition.held[item.queue] += 1
            self._begin(site.take_idle(route), item, now)
        elif self._admit(site, item, now):
            partition.held[item.queue] += 1
            if self._opens_at_once(site, route, now):
                self._open(site, route, item, now)
                return
            item.since = now
            site.push(item, route)
            self._dispatch(site, now)

    def _opens_at_once(self, site: Site, route: Route, now: float) -> bool:
        """Whether a job that comes need not wait for anything: what `_dispatch` would find out."""
        return not (
            site.pace is not None
            or self._room <= 0
            or site.connections >= site.allowed
            or site.count[0]
            or site.count[1]
            or site.own
            or route.failures
            or site.partition.paused
        ) and self._may_open(site, now)

    def again(self, item: Waiting, now: float, *, elsewhere: bool) -> None:
        """A job that had begun goes on, first of all; `elsewhere`: on a new connection only.

        To be told before `over`.
        """
        partition = self._partitions[item.partition]
        site = partition.sites[item.site]
        if not partition.serving:
            self._decided.append(Release(item))
            return
        partition.held[item.queue] += 1
        item.since = now
        if elsewhere:
            site.push_own(item)
        else:
            site.push(item, site.route(item.route), first=True)

    # Connections.

    def another(self, connection: Connection, now: float) -> bool:
        """Whether one more connection may be made to open this one, which is then done."""
        site = connection.site
        per_minute = site.limits.connections_per_minute
        if per_minute and site.window.used(now) + site.trying >= per_minute:
            return False
        connection.tries += 1
        site.trying += 1
        return True

    def opened(self, connection: Connection, now: float) -> None:
        """It can be used, and its job begins as soon as it may."""
        site, route, item = connection.site, connection.route, connection.item
        assert item is not None
        self._made(connection, now)
        route.failures, route.closed_until = 0, 0.0
        site.took_to_open(now - connection.since - self.ours, now)
        connection.state, connection.since, item.since = State.HOLDING, now, now
        site.holding[item.urgent].append(connection)
        self._dispatch(site, now)

    def failed(
        self,
        connection: Connection,
        now: float,
        *,
        cause: Any = None,
        lasting: bool = True,
    ) -> None:
        """It could not be opened, and its job is over.

        `cause`: nobody there answers anybody; jobs that come soon need not try, if it is `lasting`.
        """
        site, route = connection.site, connection.route
        self._made(connection, now)
        self._let_go(connection)
        if cause is not None and route.connections == route.opening + 1:
            self._end_ready(site, route, cause, now)
            if lasting:
                wait = BACK_OFF[min(route.failures, len(BACK_OFF) - 1)]
                site.back_off(route, now + wait, cause)
        self._gone(connection, now)
        self._dispatch(site, now)
        self._feed(now)

    def over(self, connection: Connection, now: float, *, usable: bool) -> None:
        """A transaction is over, and so is its job unless it goes on by `again`."""
        site = connection.site
        limits, count = site.limits, site.count
        connection.served += 1
        partition = site.partition
        partition.ended += 1
        if connection.item is not None:
            partition.held[connection.item.queue] -= 1
            connection.item = None
        site.took(now - connection.since - self.ours, now)
        if site.ramp < limits.connections:
            site.ramp += 1
            site.refresh()
        if not usable:
            self._closing(connection)
        elif (
            connection.served >= limits.messages_per_connection
            or site.connections - site.closing > limits.connections - site.residual
            or partition.paused
            or ((len(site.routes) > 1 or site.own) and self._yields(connection, now))
        ):
            self._close(connection)
        elif site.pace is None and self._go_on(connection, now):
            return
        else:
            self._rest(connection, now)
        if count[0] or count[1] or site.own or site.holding[0] or site.holding[1]:
            self._dispatch(site, now)

    def _go_on(self, connection: Connection, now: float) -> bool:
        ready = connection.route.ready
        if ready[1]:
            item = connection.site.pop(connection.route, 1)
        elif ready[0]:
            item = connection.site.pop(connection.route, 0)
        else:
            return False
        connection.item = item
        connection.since = now
        self._decided.append(Begin(connection, item))
        return True

    def closed(self, connection: Connection, now: float) -> None:
        """It is closed, or was lost while nothing was under way."""
        site = connection.site
        if connection.state is State.IDLE:
            site.leave_idle(connection)
        elif connection.state is State.HOLDING and connection.item is not None:
            self._take_back(connection, connection.item)
        self._let_go(connection)
        self._gone(connection, now)
        self._dispatch(site, now)
        self._feed(now)

    def _take_back(self, connection: Connection, item: Waiting) -> None:
        """The connection was lost before its job could begin."""
        connection.site.holding[item.urgent].remove(connection)
        connection.site.push(item, connection.route, first=True)
        connection.item = None

    def left_alone(self, now: float) -> Iterator[tuple[str, Any]]:
        """The sites with hosts that did not answer and are not tried now, each with its sample."""
        for site in self._sites():
            tried = site.backed_off
            if tried and any(route.closed_until > now for route in tried):
                yield site.name, site.sample

    def loads(self, now: float) -> list[Load]:
        """What each partition that is served is to us. Transactions are counted since last time."""
        served = (partition for partition in self._partitions.values() if partition.serving)
        return [load_of(partition, self._starved, now, self.ours) for partition in served]

    # Time.

    def tick(self, now: float) -> None:
        """Do what is due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, _, site = heapq.heappop(heap)
            if at == site.timer:
                site.timer = 0.0
                self._poll(site, now)
        idle = self._idle
        while idle and idle[0][0] <= now:
            connection = idle.popleft()[1]
            connection.listed = False
            if connection.state is State.IDLE:
                self._expire(connection, now)

    def _poll(self, site: Site, now: float) -> None:
        if site.waiting and now >= site.swept + SWEEP:
            self._sweep(site, now)
        self._dispatch(site, now)
        site.forget_backed_off(now - MINUTE)
        if site.is_over(now):
            self._forget(site)
        elif not site.timer and (site.backed_off or not site.connections):
            self._arm(site, now + MINUTE)
