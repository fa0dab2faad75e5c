"""Watches a scheduler from outside: every event goes through it, every decision is judged."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from services.delivery.decisions import (
    Begin,
    Cancel,
    Close,
    Decision,
    GiveBack,
    Open,
    Release,
    Unreachable,
)
from services.delivery.holding import Partition, Prefetch, Trace
from services.delivery.pacing import SLACK
from services.delivery.routes import Connection
from services.delivery.scheduler import Scheduler
from services.delivery.waiting import Waiting
from shared.broker.topology import WAIT_STEPS_MS
from shared.plan.limits import Limits

PARTITION = Partition("default", 0)
Life = Enum("Life", "WAITING BOUND BEGUN OVER")


@dataclass(eq=False)
class Watched:
    """One connection: `began` is when opening was decided, `made` when it was over."""

    site: str
    began: float
    made: float | None = None
    messages: int = 0
    tries: int = 1


@dataclass
class Seen:
    """What happened at one site."""

    connections: dict[Connection, Watched] = field(default_factory=dict)
    past: list[Watched] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)


class Referee:
    """A scheduler with a clock. Each broken promise is an AssertionError."""

    def __init__(
        self, limits: Callable[[str], Limits], prefetch: int = 64, most: int = 1000
    ) -> None:
        self.most = most
        self.limits = limits
        self.prefetch = prefetch
        self.now = 1000.0
        self.scheduler = Scheduler(limits, idle_timeout=5.0, most=most)
        self.life: dict[Waiting, Life] = {}
        self.sites: defaultdict[str, Seen] = defaultdict(Seen)
        self.residual: Counter[str] = Counter()
        self.opening: dict[Connection, Waiting] = {}
        self.busy: dict[Connection, Waiting] = {}
        self.closing: dict[Connection, None] = {}
        self.ended: Counter[type] = Counter()
        self.given_back: list[GiveBack] = []
        self.order: list[Waiting] = []

    def take(self, *, fresh: bool = True, traces: tuple[Trace, ...] = ()) -> None:
        prefetch = Prefetch(self.prefetch, self.prefetch)
        self.scheduler.take(PARTITION, prefetch, self.now, fresh=fresh, traces=traces)
        self.judge()

    def arrive(
        self,
        site: str = "a",
        *,
        urgent: bool = False,
        again: bool = False,
        route: str = "r",
        turn: float = 0.0,
    ) -> Waiting:
        item = Waiting(PARTITION, site, route, urgent=urgent, again=again, turn=turn)
        self.life[item] = Life.WAITING
        self.scheduler.arrive(item, self.now)
        self.judge()
        return item

    def another(self, connection: Connection) -> None:
        """One more connection is made to open this one, if that is permitted."""
        if self.scheduler.another(connection, self.now):
            self.sites[connection.site.name].connections[connection].tries += 1
            self._a_minute(connection.site.name)

    def opened(self, connection: Connection) -> None:
        item = self.opening.pop(connection)
        self._made(connection)
        self.life[item] = Life.WAITING
        self.scheduler.opened(connection, self.now)
        self.judge()

    def failed(self, connection: Connection, cause: Any = "down") -> None:
        self.life[self.opening.pop(connection)] = Life.OVER
        self._made(connection)
        self._leave(connection)
        self.scheduler.failed(connection, self.now, cause=cause)
        self.judge()

    def over(
        self, connection: Connection, *, usable: bool = True, again: bool | None = None
    ) -> None:
        """`again`: the job goes on; True: elsewhere."""
        item = self.busy.pop(connection)
        if again is None:
            self.life[item] = Life.OVER
        else:
            self.life[item] = Life.WAITING
            self.scheduler.again(item, self.now, elsewhere=again)
        if not usable:
            self.closing[connection] = None
        self.scheduler.over(connection, self.now, usable=usable)
        self.judge()

    def closed(self, connection: Connection) -> None:
        self.closing.pop(connection, None)
        self._leave(connection)
        self.scheduler.closed(connection, self.now)
        self.judge()

    def idle(self) -> list[Connection]:
        return [
            connection
            for seen in self.sites.values()
            for connection in seen.connections
            if connection not in self.opening
            and connection not in self.busy
            and connection not in self.closing
            and connection.item is None
        ]

    def pass_time(self, seconds: float) -> None:
        """Ticks come when they are due."""
        end = self.now + seconds
        for _ in range(10_000):
            wake = self.scheduler.wake
            if wake > end:
                break
            self.now = max(self.now, wake)
            self.scheduler.tick(self.now)
            self.judge()
        else:
            raise AssertionError("the scheduler never rests")
        self.now = end
        self.scheduler.tick(end)
        self.judge()

    def set_limits(self, limits: Callable[[str], Limits]) -> None:
        self.limits = limits
        for seen in self.sites.values():
            seen.begun.clear()
        self.scheduler.set_limits(limits, self.now)
        self.judge()

    def heed(self, site: str, connections: int) -> None:
        self.residual = Counter({site: connections})
        lane, number = PARTITION
        self.scheduler.heed([Trace(lane, number, site, connections)], self.now)
        self.judge()

    def give_up(self) -> None:
        self.scheduler.pause(PARTITION)
        self.scheduler.give_up(PARTITION, self.now)
        self.judge()

    def unfinished(self) -> list[Waiting]:
        return [item for item, life in self.life.items() if life is not Life.OVER]

    def _made(self, connection: Connection) -> None:
        self.sites[connection.site.name].connections[connection].made = self.now

    def _leave(self, connection: Connection) -> None:
        seen = self.sites[connection.site.name]
        seen.past.append(seen.connections.pop(connection))

    def judge(self) -> None:
        for decision in self.scheduler.decisions():
            self._judge(decision)

    def _judge(self, decision: Decision) -> None:
        self.ended[type(decision)] += 1
        match decision:
            case Open(connection, item):
                self._opens(connection, item)
            case Begin(connection, item):
                self._begins(connection, item)
            case Close(connection):
                assert connection not in self.busy | self.opening
                assert connection not in self.closing
                self.closing[connection] = None
            case Cancel(connection):
                self.life[self.opening.pop(connection)] = Life.OVER
                self._made(connection)
                self._leave(connection)
                self.scheduler.failed(connection, self.now)
            case GiveBack(item, delay_ms):
                assert delay_ms in WAIT_STEPS_MS
                self.given_back.append(decision)
                self._ends(item)
            case Release(item) | Unreachable(item):
                self._ends(item)

    def _ends(self, item: Waiting) -> None:
        assert self.life[item] is Life.WAITING
        self.life[item] = Life.OVER

    def _opens(self, connection: Connection, item: Waiting) -> None:
        assert self.life[item] is Life.WAITING
        self.life[item] = Life.BOUND
        self.opening[connection] = item
        seen, limits = self.sites[item.site], self.limits(item.site)
        seen.connections[connection] = Watched(item.site, self.now)
        assert len(seen.connections) + self.residual[item.site] <= limits.connections
        assert sum(len(site.connections) for site in self.sites.values()) <= self.most
        self._a_minute(item.site)

    def _a_minute(self, site: str) -> None:
        """However the connections lie between the begin and the end of opening them."""
        seen, limits = self.sites[site], self.limits(site)
        recent = [
            one.tries
            for one in (*seen.connections.values(), *seen.past)
            if one.made is None or one.made > self.now - 60
        ]
        assert not limits.connections_per_minute or sum(recent) <= limits.connections_per_minute

    def _begins(self, connection: Connection, item: Waiting) -> None:
        assert self.life[item] is Life.WAITING
        assert connection not in self.busy | self.opening
        assert connection not in self.closing
        assert (connection.site.name, connection.route.key) == (item.site, item.route)
        self.life[item] = Life.BEGUN
        self.busy[connection] = item
        self.order.append(item)
        seen, limits = self.sites[item.site], self.limits(item.site)
        watched = seen.connections[connection]
        watched.messages += 1
        assert watched.messages <= limits.messages_per_connection
        if limits.messages_per_second:
            seen.begun.append(self.now)
            self._is_paced(seen.begun, limits.messages_per_second)

    @staticmethod
    def _is_paced(begun: list[float], rate: float) -> None:
        last = begun[-1]
        for number, at in enumerate(reversed(begun)):
            assert number <= rate * (last - at + SLACK) + 1e-6
