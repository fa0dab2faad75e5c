"""Does what the scheduler decides, and tells it what happened: all connections of this worker."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.delivery.classify import unreachable
from services.delivery.decisions import (
    Begin,
    Cancel,
    Close,
    GiveBack,
    Open,
    Release,
    Unreachable,
)
from services.delivery.demand import Load
from services.delivery.holding import Partition, Prefetch, Trace
from services.delivery.line import Line, Tools
from services.delivery.routes import Connection
from services.delivery.scheduler import Scheduler
from services.delivery.work import Work
from shared.logs import get_logger
from shared.messages.model import DeliveryJob
from shared.messages.outcome import Deferred, Outcome
from shared.plan.limits import Limits
from shared.settings.shaping import OTHER_PROVIDER
from shared.smtp.replies import Reply

TURNS = 5
"""Turns of the loop that a transaction takes, at most."""
FADING = 0.98
"""What is left, a turn later, of how busy we were."""
_NO_TIME = Deferred(
    Reply(451, "4.3.2", "The limits of the site left no time for the rest"), "limit"
)


class Pool:
    """The scheduler's shell. `idle_timeout` in seconds; `most` connections at a time."""

    def __init__(
        self,
        tools: Tools,
        limits_of: Callable[[DeliveryJob], Limits],
        idle_timeout: float,
        throttled: Mapping[str, Callable[[float], None]],
        most: int,
    ) -> None:
        self._tools = tools
        self._scheduler = Scheduler(limits_of, idle_timeout, most)
        self._throttled = throttled
        self._lines: dict[Connection, Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._wake = math.inf
        self._loop_time = asyncio.get_running_loop().time
        self._turn = self._latest = 0.0
        self._doers: dict[type, Callable[[Any], None]] = {
            Open: self._do_open,
            Begin: self._do_begin,
            Close: self._do_close,
            Cancel: self._do_cancel,
            GiveBack: self._do_give_back,
            Release: self._do_release,
            Unreachable: self._do_unreachable,
        }

    def submit(self, work: Work) -> None:
        """Attempt the job as soon as its site permits, or give it back."""
        self._scheduler.arrive(work, self._time())
        self._act()

    def set_limits(self, limits_of: Callable[[DeliveryJob], Limits]) -> None:
        """Other limits, from now on."""
        self._scheduler.set_limits(limits_of, self._time())
        self._act()

    # Partitions: see `services.delivery.holding.Holder`.

    def take(
        self, partition: Partition, prefetch: Prefetch, *, fresh: bool, traces: Sequence[Trace] = ()
    ) -> None:
        """Serve a partition, whose queues have this prefetch."""
        self._scheduler.take(partition, prefetch, self._time(), fresh=fresh, traces=traces)
        self._act()

    def pause(self, partition: Partition) -> None:
        """Begin nothing more in a partition."""
        self._scheduler.pause(partition)

    def give_up(self, partition: Partition) -> Sequence[Trace]:
        """Release what has not begun; what has goes on."""
        traces = self._scheduler.give_up(partition, self._time())
        self._act()
        return traces

    def remains(self) -> Sequence[Trace]:
        """What is still open of partitions that were given up."""
        return self._scheduler.remains(self._time())

    def heed(self, remains: Sequence[Trace]) -> None:
        """What others still have open."""
        self._scheduler.heed(remains, self._time())
        self._act()

    def left_alone(self) -> Mapping[str, int]:
        """How many sites of each provider have hosts that are not tried now."""
        providers = {site: job.provider for site, job in self._scheduler.left_alone(self._time())}
        return Counter(providers.values())

    def loads(self) -> list[Load]:
        """What each partition is to us; transactions are counted from one call to the next."""
        return self._scheduler.loads(self._time())

    async def ended(self) -> None:
        """Return when every connection is closed: all partitions were given up."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._timer is not None:
            self._timer.cancel()

    # What connections report (`services.delivery.line.Events`).

    def another(self, connection: Connection) -> bool:
        """See `Events.another`."""
        return self._scheduler.another(connection, self._time())

    def opened(self, connection: Connection) -> None:
        """See `Events.opened`."""
        self._scheduler.opened(connection, self._time())
        self._act()

    def failed(self, connection: Connection, cause: Outcome | None) -> None:
        """See `Events.failed`."""
        # Who says 5yz to one may be asked again by the next; who does not answer may not.
        lasting = isinstance(cause, Deferred)
        self._scheduler.failed(connection, self._time(), cause=cause, lasting=lasting)
        self._act()

    def again(self, work: Work, *, elsewhere: bool) -> None:
        """See `Events.again`."""
        self._scheduler.again(work, self._time(), elsewhere=elsewhere)

    def over(self, connection: Connection, *, usable: bool) -> None:
        """See `Events.over`."""
        self._scheduler.over(connection, self._time(), usable=usable)
        self._act()

    def closed(self, connection: Connection) -> None:
        """See `Events.closed`."""
        self._scheduler.closed(connection, self._time())
        self._act()

    def _time(self) -> float:
        """The loop's time, which stands still for a turn of the loop: turns that last are ours."""
        now, latest = self._loop_time(), time.monotonic()
        if now != self._turn:
            scheduler = self._scheduler
            busy = (self._latest - self._turn) * TURNS
            scheduler.ours = max(busy, scheduler.ours * FADING)
            self._turn = now
        self._latest = latest
        return now

    # What was decided.

    def _act(self) -> None:
        scheduler, doers = self._scheduler, self._doers
        for decision in scheduler.decisions():
            doers[type(decision)](decision)
        if scheduler.wake < self._wake:
            self._sleep()

    def _sleep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wake = self._scheduler.wake
        self._timer = asyncio.get_running_loop().call_at(self._wake, self._tick)

    def _tick(self) -> None:
        self._timer, self._wake = None, math.inf
        self._scheduler.tick(self._time())
        self._act()

    def _waited(self, work: Work) -> None:
        if work.since:
            self._throttle(work, self._time() - work.since)
            work.since = 0.0

    def _throttle(self, work: Work, seconds: float) -> None:
        provider = work.job.provider
        self._throttled[provider if provider in self._throttled else OTHER_PROVIDER](seconds)

    def _do_open(self, decision: Open) -> None:
        work = decision.item
        self._waited(work)
        line = Line(self._tools, self, decision.connection, work)
        self._lines[decision.connection] = line
        task = line.task = asyncio.get_running_loop().create_task(line.run())
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(line, task))

    def _ended(self, line: Line, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        del self._lines[line.connection]
        if not task.cancelled() and (error := task.exception()) is not None:
            get_logger().error("connection task failed", exc_info=error)
        if not line.reported and line.work is not None:
            if task.cancelled():
                self._abandon(line.work)
            else:
                self._tools.owner.broken(line.work)
            self.failed(line.connection, None)

    def _do_begin(self, decision: Begin) -> None:
        work = decision.item
        self._waited(work)
        self._lines[decision.connection].begin(work)

    def _do_close(self, decision: Close) -> None:
        self._lines[decision.connection].leave()

    def _do_cancel(self, decision: Cancel) -> None:
        self._lines[decision.connection].task.cancel()

    def _do_give_back(self, decision: GiveBack) -> None:
        work = decision.item
        self._waited(work)
        if work.begun:
            self._abandon(work)
        else:
            self._throttle(work, decision.delay_ms / 1000)
            work.turn = decision.turn
            self._tools.owner.give_back(work, decision.delay_ms, decision.reason)

    def _do_release(self, decision: Release) -> None:
        self._abandon(decision.item)

    def _do_unreachable(self, decision: Unreachable) -> None:
        work = decision.item
        self._waited(work)
        self._tools.owner.finish(work, work.decide_rest(decision.cause))

    def _abandon(self, work: Work) -> None:
        """The work ends here: nobody else knows what hosts have said about it."""
        if work.begun:
            failures = [outcome for _, outcome in work.walk.failures]
            outcome = unreachable(failures) if failures else _NO_TIME
            self._tools.owner.finish(work, work.decide_rest(outcome))
        else:
            self._tools.owner.release(work)
