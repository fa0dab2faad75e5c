"""Which jobs a site may hold ready (pure): the rest is given back, each with its turn."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from services.delivery.crowds import is_far
from services.delivery.decisions import Decision, GiveBack, Unreachable
from services.delivery.routes import Connection, Route
from services.delivery.site_state import SOON, Site
from services.delivery.turns import wait_step
from services.delivery.waiting import AGAIN, Waiting

HELD = 60.0
"""Seconds that a job is held at most before it begins: brokers do not let one hold for ever."""
SWEEP = 1.0
"""Seconds from one look at what a site holds to the next."""
QUICK = 1.0
"""Seconds that a job may wait however crowded the queue is that it came from."""
SHARE = 2
"""A site may hold so many times what is left of a queue's prefetch: some is always left."""


class Admission:
    """Holds the decisions, and when to look at which site again. `idle_timeout` in seconds."""

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
        urgent, count = item.urgent, site.count
        if not (count[0] or count[1]):
            return True
        rate = site.rate(now, self.ours)
        start = now + (count[1] if urgent else count[0] + count[1]) / rate
        calendar = site.calendars[urgent]
        room = max(2.0 * site.limits.connections, SOON * rate)
        if calendar.is_early(item.turn, start):
            room /= 2
        if count[urgent] < room and (start - now < QUICK or not self._crowds(site, item.queue)):
            return True
        self._give_back(item, calendar.reserve(item.turn, start, rate), now, "limit")
        return False

    def _give_back(self, item: Waiting, turn: float, now: float, reason: str) -> None:
        item.crowd = is_far(turn, now)
        self._decided.append(GiveBack(item, wait_step(turn - now), turn, reason))

    def _turn_away(self, site: Site, item: Waiting, cause: Any, now: float) -> None:
        item.crowd = site.crowd.grows(now)
        self._decided.append(Unreachable(item, cause))

    def _crowds(self, site: Site, queue: int) -> bool:
        """Whether the site holds too much of what the queue may hand out."""
        partition = site.partition
        free = partition.prefetch[queue] - partition.held[queue]
        return site.connections + site.count[queue % AGAIN] > SHARE * free

    def _sweep(self, site: Site, now: float) -> None:
        """Give back what was held long enough, or is more than was thought when it was let in."""
        site.swept = now
        rate = site.rate(now, self.ours)
        for queue in range(2 * AGAIN):
            urgent = queue % AGAIN
            while site.count[urgent] > QUICK * rate and self._crowds(site, queue):
                item = site.pop_newest(urgent, queue)
                if item is None:
                    break
                self._too_late(site, item, now)
        before = now - HELD
        while site.own and site.own[0].since < before:
            self._too_late(site, site.own.popleft(), now)
        for urgent in (1, 0):
            for route in list(site.turns[urgent]):
                ready = route.ready[urgent]
                while ready and ready[0].since < before:
                    self._too_late(site, site.pop(route, urgent), now)

    def _too_late(self, site: Site, item: Waiting, now: float) -> None:
        site.partition.held[item.queue] -= 1
        turn = site.calendars[item.urgent].reserve(item.since, now, site.rate(now, self.ours))
        self._give_back(item, turn, now, "late")

    def _end_ready(self, site: Site, route: Route, cause: Any, now: float) -> None:
        for urgent in (1, 0):
            while route.ready[urgent]:
                item = site.pop(route, urgent)
                site.partition.held[item.queue] -= 1
                self._turn_away(site, item, cause, now)
