"""The connections to one destination: each a task that serves job after job.

Transactional work goes before bulk. A connection is opened when work waits that no idle connection
takes, up to the limit, and closed when idle, worn out, lost or draining.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from services.delivery.attempt import Limits, Result, transact
from services.delivery.classify import overruled
from services.delivery.client import PipelinedProtocol
from services.delivery.hop import NextHop
from services.delivery.opening import Opener
from services.delivery.work import Owner, Work
from shared import metrics
from shared.logs import get_logger
from shared.messages.model import MessageClass
from shared.messages.outcome import Outcome
from shared.settings.model import DeliverySettings
from shared.settings.shaping import SiteLimits


@dataclass(frozen=True, slots=True)
class Tools:
    """What all destinations share."""

    settings: DeliverySettings
    limits: Limits
    site_limits: SiteLimits
    opener: Opener
    owner: Owner


class Destination:
    """Jobs that wait for one destination, and the connections that take them."""

    def __init__(self, tools: Tools, when_empty: Callable[[], None]) -> None:
        self._tools = tools
        self._when_empty = when_empty
        self._urgent: deque[Work] = deque()
        self._bulk: deque[Work] = deque()
        self._idle: deque[asyncio.Future[Work | None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._openers: set[asyncio.Task[None]] = set()
        self._opening = self._open = 0
        self._draining = False

    def submit(self, work: Work) -> None:
        """Give to an idle connection, or let it wait for one."""
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(work)
                return
        work.since = asyncio.get_running_loop().time()
        self._queue(work).append(work)
        self._grow()

    def release_since(self, before: float) -> None:
        """Release what has waited since before that time: brokers do not let one hold for ever."""
        for queue in (self._urgent, self._bulk):
            while queue and queue[0].since < before:
                self._tools.owner.release(queue.popleft())

    def drain(self) -> set[asyncio.Task[None]]:
        """Release what waits; returns the connections that end once their transaction is over."""
        self._draining = True
        while (work := self._take()) is not None:
            self._tools.owner.release(work)
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        for task in self._openers:
            task.cancel()
        return set(self._tasks)

    def _queue(self, work: Work) -> deque[Work]:
        urgent = work.job.message_class is MessageClass.TRANSACTIONAL
        return self._urgent if urgent else self._bulk

    def _take(self) -> Work | None:
        if self._urgent:
            return self._urgent.popleft()
        return self._bulk.popleft() if self._bulk else None

    def _grow(self) -> None:
        waiting = len(self._urgent) + len(self._bulk)
        room = self._tools.site_limits.connections - len(self._tasks)
        if waiting > self._opening and room > 0:
            self._opening += 1
            task = asyncio.get_running_loop().create_task(self._connection())
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            get_logger().error("connection task failed", exc_info=error)
        if self._urgent or self._bulk:
            self._grow()
        elif not self._tasks:
            self._when_empty()

    async def _connection(self) -> None:
        work = self._take()
        if work is None:
            self._opening -= 1
        while work is not None:
            hop = await self._open_for(work)
            if isinstance(hop, NextHop):
                work = await self._serve(hop, work)
                self._opening += work is not None
            else:
                self._unreachable(work, hop)
                work = None

    async def _open_for(self, work: Work) -> NextHop | Outcome:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._openers.add(task)
        try:
            self._begin(work)
            return await self._tools.opener.open(work.job, work.walk)
        except BaseException:
            if self._draining:
                self._tools.owner.release(work)
            else:
                self._tools.owner.broken(work)
            raise
        finally:
            self._openers.discard(task)
            self._opening -= 1

    def _unreachable(self, work: Work, outcome: Outcome) -> None:
        """Nobody answers: what waits need not try again, unless somebody answers others."""
        owner = self._tools.owner
        owner.finish(work, work.decide_rest(outcome))
        while not self._open and not work.walk.spoken and (other := self._take()) is not None:
            owner.finish(other, other.decide_rest(outcome))

    async def _serve(self, hop: NextHop, work: Work | None) -> Work | None:
        """Job after job; returns the one that has to go on at another host."""
        link, offered = hop.link, hop.extensions
        self._open += 1
        metrics.pool_connections.inc()
        try:
            while work is not None:
                if not await self._attempt(hop, link, offered, work):
                    return work
                work = await self._next(hop, link)
            return None
        finally:
            await hop.leave()
            self._open -= 1
            metrics.pool_connections.dec()

    async def _attempt(
        self, hop: NextHop, link: PipelinedProtocol, offered: dict[str, str], work: Work
    ) -> bool:
        """Whether the job is done with here; False if another host is to be tried."""
        tools = self._tools
        try:
            content = work.content
            if content is None and (content := await tools.owner.load(work)) is None:
                return True
            self._begin(work)
            link.not_after = work.walk.not_after
            result = await transact(link, offered, work.rest, content, tools.limits)
            hop.served += 1
            if result.not_begun and hop.served > 1:
                # The peer closed a connection that lay idle or was old: a new one decides.
                self._again(work)
                return True
            return self._absorb(hop, work, result)
        except BaseException:
            tools.owner.broken(work)
            raise

    def _absorb(self, hop: NextHop, work: Work, result: Result) -> bool:
        work.decide(
            [outcome and overruled(outcome, hop.better_failure) for outcome in result.outcomes]
        )
        if result.trouble is None:
            self._tools.owner.finish(work, work.outcomes())
            return True
        work.walk.spoken = True
        work.walk.tried.add(hop.place)
        work.walk.failures.append((hop.place.preference, result.trouble))
        if self._draining:
            self._tools.owner.release(work)
        return self._draining

    def _begin(self, work: Work) -> None:
        if not work.walk.not_after:
            loop = asyncio.get_running_loop()
            work.walk.not_after = loop.time() + self._tools.limits.attempt

    def _again(self, work: Work) -> None:
        if self._draining:
            self._tools.owner.release(work)
        else:
            self._queue(work).appendleft(work)

    async def _next(self, hop: NextHop, link: PipelinedProtocol) -> Work | None:
        """The next job of this connection, None if it should end."""
        if (
            not link.usable
            or self._draining
            or hop.served >= self._tools.site_limits.messages_per_connection
        ):
            return None
        return self._take() or await self._idle_wait(link)

    async def _idle_wait(self, link: PipelinedProtocol) -> Work | None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Work | None] = loop.create_future()

        def give_up() -> None:
            if not waiter.done():
                waiter.set_result(None)

        timer = loop.call_later(self._tools.settings.idle_timeout / 1000, give_up)
        link.on_loss = give_up
        self._idle.append(waiter)
        try:
            return await waiter
        finally:
            timer.cancel()
            if waiter in self._idle:
                self._idle.remove(waiter)
