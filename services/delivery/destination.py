"""The connections to one destination: each a task that serves job after job.

Transactional work goes before bulk. A connection is opened when work waits that no idle connection
takes, up to the limit, and closed when idle, worn out, lost or draining.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from services.delivery.attempt import Limits, transact
from services.delivery.client import NextHop, PipelinedProtocol
from services.delivery.opening import Opener
from services.delivery.work import Owner, Work
from shared import metrics
from shared.logs import get_logger
from shared.messages.model import MessageClass
from shared.messages.outcome import Outcome
from shared.settings.model import DeliverySettings

GOODBYE = 5.0
"""Seconds a peer has to answer QUIT."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What all destinations share."""

    settings: DeliverySettings
    limits: Limits
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
        self._opening = self._open = 0
        self._draining = False

    def submit(self, work: Work) -> None:
        """Give to an idle connection, or let it wait for one."""
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(work)
                return
        self._queue(work).append(work)
        self._grow()

    def drain(self) -> set[asyncio.Task[None]]:
        """Release what waits; returns the connections that end once their transaction is over."""
        self._draining = True
        while (work := self._take()) is not None:
            self._tools.owner.release(work)
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
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
        room = self._tools.settings.connections_per_destination - len(self._tasks)
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
            return
        try:
            hop = await self._tools.opener.open(work.job)
        except BaseException:
            self._tools.owner.broken(work)
            raise
        finally:
            self._opening -= 1
        if isinstance(hop, NextHop):
            await self._serve(hop, work)
        else:
            self._unreachable(work, hop)

    def _unreachable(self, work: Work, outcome: Outcome) -> None:
        """Nobody answers: what waits need not try again, unless a connection is open."""
        unlucky: Work | None = work
        while unlucky is not None:
            self._tools.owner.finish(unlucky, (outcome,) * len(unlucky.job.recipients))
            unlucky = None if self._open else self._take()

    async def _serve(self, hop: NextHop, work: Work | None) -> None:
        link, offered = hop.link, dict(hop.esmtp_extensions)
        self._open += 1
        metrics.pool_connections.inc()
        try:
            while work is not None:
                await self._attempt(hop, link, offered, work)
                work = await self._next(hop, link)
            await _leave(link)
        finally:
            self._open -= 1
            metrics.pool_connections.dec()
            hop.close()

    async def _attempt(
        self, hop: NextHop, link: PipelinedProtocol, offered: dict[str, str], work: Work
    ) -> None:
        tools = self._tools
        try:
            content = work.content
            if content is None and (content := await tools.owner.load(work)) is None:
                return
            result = await transact(link, offered, work.job, content, tools.limits)
        except BaseException:
            tools.owner.broken(work)
            raise
        hop.served += 1
        if result.not_begun and hop.served > 1:
            # The peer closed a connection that lay idle or was old: a new one decides.
            self._again(work)
        else:
            tools.owner.finish(work, result.outcomes)

    def _again(self, work: Work) -> None:
        if self._draining:
            self._tools.owner.release(work)
        else:
            self._queue(work).appendleft(work)

    async def _next(self, hop: NextHop, link: PipelinedProtocol) -> Work | None:
        """The next job of this connection, None if it should end."""
        settings = self._tools.settings
        if not link.usable or self._draining or hop.served >= settings.messages_per_connection:
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


async def _leave(link: PipelinedProtocol) -> None:
    if link.usable:
        await link.send(b"QUIT\r\n", 1, GOODBYE)[0]
