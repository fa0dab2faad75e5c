"""Whatever happens, in whatever order: no limit is exceeded and no job is lost or sent twice."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.delivery.routes import Connection
from services.delivery.waiting import AGAIN
from shared.plan.limits import Limits
from tests.unit.delivery.referee import PARTITION, Life, Referee

SITES = ("a", "b")
limits = st.builds(
    Limits,
    connections=st.integers(1, 8),
    messages_per_connection=st.integers(1, 4),
    messages_per_second=st.sampled_from([0, 0, 0.3, 2, 50, 1000]),
    connections_per_minute=st.sampled_from([0, 0, 1, 3, 20]),
)
seconds = st.sampled_from([0.0001, 0.001, 0.02, 0.3, 1, 4.99, 5, 12, 31, 70])


def pick(data: st.DataObject, connections: list[Connection]) -> Connection:
    return connections[data.draw(st.integers(0, len(connections) - 1))]


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.table: dict[str, Limits] = {}
        self.referee = Referee(lambda site: self.table[site], most=5)
        self.serving = False

    @initialize(first=limits, second=limits, fresh=st.booleans())
    def start(self, first: Limits, second: Limits, fresh: bool) -> None:
        self.table = dict(zip(SITES, (first, second), strict=True))
        self.referee.take(fresh=fresh)
        self.serving = True

    @rule(
        count=st.integers(1, 12),
        site=st.sampled_from(SITES),
        route=st.sampled_from(["r", "r", "s"]),
        queue=st.integers(0, 2 * AGAIN - 1),
        turn=st.sampled_from([0, 0, 0, -10, 3, 100]),
    )
    def jobs_come(self, count: int, site: str, route: str, queue: int, turn: float) -> None:
        urgent, again = bool(queue % AGAIN), queue >= AGAIN
        for _ in range(count):
            at = self.referee.now + turn if turn else 0.0
            self.referee.arrive(site, urgent=urgent, again=again, route=route, turn=at)

    @precondition(lambda self: self.referee.opening)
    @rule(data=st.data(), works=st.sampled_from([True, True, True, False]), dead=st.booleans())
    def opening_ends(self, data: st.DataObject, works: bool, dead: bool) -> None:
        connection = pick(data, list(self.referee.opening))
        if works:
            self.referee.opened(connection)
        else:
            self.referee.failed(connection, "down" if dead else None)

    @precondition(lambda self: self.referee.opening)
    @rule(data=st.data())
    def another_host_is_tried(self, data: st.DataObject) -> None:
        self.referee.another(pick(data, list(self.referee.opening)))

    @precondition(lambda self: self.referee.busy)
    @rule(
        data=st.data(),
        usable=st.sampled_from([True, True, True, False]),
        again=st.sampled_from([None, None, None, False, True]),
    )
    def a_transaction_ends(self, data: st.DataObject, usable: bool, again: bool | None) -> None:
        self.referee.over(pick(data, list(self.referee.busy)), usable=usable, again=again)

    @precondition(lambda self: self.referee.closing)
    @rule(data=st.data())
    def closing_ends(self, data: st.DataObject) -> None:
        self.referee.closed(pick(data, list(self.referee.closing)))

    @precondition(lambda self: self.referee.idle())
    @rule(data=st.data())
    def an_idle_connection_is_lost(self, data: st.DataObject) -> None:
        self.referee.closed(pick(data, self.referee.idle()))

    @rule(seconds=seconds)
    def time_passes(self, seconds: float) -> None:
        self.referee.pass_time(seconds)

    @rule(site=st.sampled_from(SITES), changed=limits)
    def limits_change(self, site: str, changed: Limits) -> None:
        self.table[site] = changed
        self.referee.set_limits(lambda site: self.table[site])

    @rule(site=st.sampled_from(SITES), connections=st.integers(0, 3))
    def others_tell_what_they_have_open(self, site: str, connections: int) -> None:
        self.referee.heed(site, connections)

    @rule(fresh=st.booleans())
    def the_partition_moves_away_and_back(self, fresh: bool) -> None:
        self.referee.give_up()
        waiting = [item for item in self.referee.unfinished() if item not in self.under_way()]
        assert waiting == []
        self.referee.take(fresh=fresh)

    def under_way(self) -> list[object]:
        return [*self.referee.busy.values()]

    @invariant()
    def transactional_goes_first(self) -> None:
        """A route with an idle connection has no job that could begin on it."""
        for connection in self.referee.idle():
            if connection.site.pace is None:
                assert not connection.route.ready[1]
                assert not connection.route.ready[0]

    @invariant()
    def what_is_held_counts_for_the_queue_it_came_from(self) -> None:
        queues = [item.queue for item in self.referee.unfinished()]
        partition = self.referee.scheduler._partitions.get(PARTITION)
        held = partition.held if partition is not None else [0] * 4
        assert held == [queues.count(queue) for queue in range(4)]

    def teardown(self) -> None:
        """Every job that is left is started or given back once everybody answers."""
        referee = self.referee
        for site in SITES if self.serving else ():
            referee.heed(site, 0)
        for _ in range(2000):
            for connection in list(referee.opening):
                referee.opened(connection)
            for connection in list(referee.closing):
                referee.closed(connection)
            for connection in list(referee.busy):
                referee.over(connection)
            if not referee.unfinished():
                break
            referee.pass_time(1)
        assert set(referee.life.values()) <= {Life.OVER}
        referee.pass_time(3600)
        for connection in list(referee.closing):
            referee.closed(connection)
        referee.pass_time(700_000)
        assert not any(seen.connections for seen in referee.sites.values())
        assert not list(referee.scheduler._sites())


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
