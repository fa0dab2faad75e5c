"""One connection: a task that opens it and serves job after job, as the scheduler says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from services.delivery.attempt import Limits, Result, transact, transact_on
from services.delivery.classify import overruled
from services.delivery.client import PipelinedProtocol, nobody
from services.delivery.hop import NextHop
from services.delivery.opening import Opener
from services.delivery.routes import Connection
from services.delivery.straight import Begun, Straight, straight_way
from services.delivery.work import Owner, Walk, Work, always
from shared import metrics
from shared.logs import get_logger
from shared.messages.model import DeliveryJob
from shared.messages.outcome import Delivered, Outcome
from shared.smtp.replies import Reply


@dataclass(frozen=True, slots=True)
class Tools:
    """What all connections share. `clock` gives epoch seconds."""

    timeouts: Limits
    opener: Opener
    owner: Owner
    clock: Callable[[], float] = time.time


class Events(Protocol):
    """What a connection reports."""

    def another(self, connection: Connection) -> bool:
        """Whether one more may be made, after one that failed."""

    def opened(self, connection: Connection) -> None:
        """It is past EHLO."""

    def failed(self, connection: Connection, cause: Outcome | None) -> None:
        """There is no connection; `cause` tells that nobody answers."""

    def again(self, work: Work, *, elsewhere: bool) -> None:
        """The job has to go on; to be told before `over`."""

    def over(self, connection: Connection, *, usable: bool) -> None:
        """A transaction is over."""

    def closed(self, connection: Connection) -> None:
        """The connection is closed."""


class Line:
    """The connection. `reported` tells whether opening it came to an end."""

    task: asyncio.Task[None]

    def __init__(self, tools: Tools, events: Events, connection: Connection, work: Work) -> None:
        self.connection = connection
        self.work: Work | None = work
        self.reported = False
        self._tools = tools
        self._events = events
        self._leaving = False
        self._waiter: asyncio.Future[None] | None = None
        self._tried = False
        self._hop: NextHop
        self._straight: Straight | None = None
        self._begun: Begun | None = None

    def begin(self, work: Work) -> None:
        """Send this job."""
        straight, content = self._straight, work.content
        if straight is not None and content is not None and work.job.deliver_by is None:
            self._begin_attempt(work)
            self._hop.link.not_after = work.walk.not_after
            most = self.connection.site.limits.recipients_per_transaction
            if straight.begin(work, work.part(most), content):
                return
        self.work = work
        self._wake()

    def _go_on(self, begun: Begun) -> None:
        self._begun = begun
        self._wake()

    def _delivered(self, work: Work, job: DeliveryJob, reply: Reply) -> None:
        """All went well with a transaction. Called by the link: nothing may be raised."""
        owner, hop = self._tools.owner, self._hop
        try:
            hop.served += 1
            work.hop = hop.facts
            told = job.dsn is not None and "dsn" in hop.extensions
            outcomes = (Delivered(reply, told),) * len(job.recipients)
            if job is work.job and job.dsn is None:
                owner.delivered(work, outcomes)
            else:
                work.decide(outcomes)
                self._decided(work)
            usable = hop.link.usable
            self._leaving = not usable
            self._events.over(self.connection, usable=usable)
        except Exception:
            get_logger().exception("a job could not be settled", job_id=job.id)
            owner.broken(work)
            hop.link.lose("trouble of ours")

    def _decided(self, work: Work) -> None:
        if work.decided:
            self._tools.owner.finish(work, work.outcomes())
        else:
            self._events.again(work, elsewhere=False)

    def leave(self) -> None:
        """Close the connection."""
        self._leaving = True
        self._wake()

    def _may_connect(self) -> bool:
        """The first is what was decided; each further one counts as well."""
        if self._tried:
            return self._events.another(self.connection)
        self._tried = True
        return True

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def run(self) -> None:
        """Open, serve, close."""
        work = self.work
        assert work is not None
        self._begin_attempt(work)
        work.walk.may_connect = self._may_connect
        hop = await self._tools.opener.open(work.job, work.walk)
        work.walk.may_connect = always
        self.reported = True
        self.work = None
        if not isinstance(hop, NextHop):
            self._tools.owner.finish(work, work.decide_rest(hop))
            self._events.failed(self.connection, None if work.walk.spoken else hop)
            return
        metrics.pool_connections.inc()
        link = hop.link
        link.on_loss = self._wake
        self._hop = hop
        if straight_way(hop.extensions):
            times = self._tools.timeouts.times
            self._straight = Straight(link, hop.extensions, times, self._delivered, self._go_on)
        try:
            self._events.opened(self.connection)
            await self._serve(hop, link)
        finally:
            await hop.leave()
            metrics.pool_connections.dec()
            self._events.closed(self.connection)
            # Else they and the last mail wait for the collector of cycles: an eighth of the time
            # where each mail has a connection of its own.
            link.on_loss, self._straight = nobody, None

    async def _serve(self, hop: NextHop, link: PipelinedProtocol) -> None:
        offered = hop.extensions
        while True:
            work, begun = self.work, self._begun
            if begun is not None:
                self._begun = None
                await self._attempt(hop, link, offered, begun.work, begun)
            elif work is not None:
                self.work = None
                await self._attempt(hop, link, offered, work)
            elif self._leaving or not link.usable:
                break
            else:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
                self._waiter = None
        held = self.connection.item
        if isinstance(held, Work):
            # It was opened for this job, and lost before its time came: a new one decides.
            held.walk = Walk(not_after=held.walk.not_after, began=held.walk.began)

    async def _attempt(
        self,
        hop: NextHop,
        link: PipelinedProtocol,
        offered: Mapping[str, str],
        work: Work,
        begun: Begun | None = None,
    ) -> None:
        tools = self._tools
        usable = True
        try:
            content = work.content
            if content is None:
                content = await tools.owner.load(work)
            if content is not None:
                if begun is not None:
                    result = await transact_on(link, begun, content, tools.timeouts)
                else:
                    self._begin_attempt(work)
                    link.not_after = work.walk.not_after
                    most = self.connection.site.limits.recipients_per_transaction
                    job = work.part(most)
                    now = tools.clock()
                    result = await transact(link, offered, job, content, tools.timeouts, now=now)
                hop.served += 1
                work.hop = hop.facts
                usable = self._absorb(hop, work, result)
        except BaseException:
            tools.owner.broken(work)
            raise
        usable = usable and link.usable
        self._leaving = not usable
        self._events.over(self.connection, usable=usable)

    def _absorb(self, hop: NextHop, work: Work, result: Result) -> bool:
        """Whether the connection may go on."""
        if result.not_begun and hop.served > 1:
            # The peer closed a connection that lay idle or was old: a new one decides.
            self._events.again(work, elsewhere=False)
            return False
        outcomes = result.outcomes
        better = hop.better_failure
        if better is not None:
            outcomes = tuple(outcome and overruled(outcome, better) for outcome in outcomes)
        told = work.job.dsn is not None and "dsn" in hop.extensions
        timed = work.job.deliver_by is not None and "deliverby" in hop.extensions
        if told or timed:
            outcomes = tuple(_promised(outcome, told, timed) for outcome in outcomes)
        work.decide(outcomes)
        if result.trouble is not None:
            self._walk_on(hop, work, result.trouble)
            return False
        self._decided(work)
        return True

    def _walk_on(self, hop: NextHop, work: Work, trouble: Outcome) -> None:
        work.walk.spoken = True
        work.walk.tried.add(hop.place)
        work.walk.failures.append((hop.place.preference, trouble))
        self._events.again(work, elsewhere=True)

    def _begin_attempt(self, work: Work) -> None:
        if not work.walk.not_after:
            loop = asyncio.get_running_loop()
            work.walk.not_after = loop.time() + self._tools.timeouts.attempt
            work.walk.began = time.monotonic()


def _promised(outcome: Outcome | None, told: bool, timed: bool) -> Outcome | None:
    """The next hop notifies from here on, or sees to the time."""
    return Delivered(outcome.reply, told, timed) if isinstance(outcome, Delivered) else outcome
