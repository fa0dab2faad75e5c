"""All destinations this worker has work for, each with its own connections."""

from __future__ import annotations

import asyncio

from services.delivery.destination import Destination, Tools
from services.delivery.work import Work
from shared.messages.model import MailExchanger

_Key = tuple[str, bool, frozenset[MailExchanger]]


class Pool:
    """Gives work to connections. A destination is forgotten with its last connection."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._destinations: dict[_Key, Destination] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def submit(self, work: Work) -> None:
        """Attempt the job as soon as a connection is free."""
        job = work.job
        key = (job.destination, job.static, frozenset(job.exchangers))
        destination = self._destinations.get(key)
        if destination is None:
            destination = Destination(self._tools, lambda: self._forget(key))
            self._destinations[key] = destination
        destination.submit(work)
        if self._sweeper is None:
            self._sweeper = self._sweep_later()

    def _sweep_later(self) -> asyncio.TimerHandle:
        seconds = self._tools.limits.waiting / 10
        return asyncio.get_running_loop().call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        before = asyncio.get_running_loop().time() - self._tools.limits.waiting
        for destination in self._destinations.values():
            destination.release_since(before)
        self._sweeper = self._sweep_later() if self._destinations else None

    def _forget(self, key: _Key) -> None:
        self._destinations.pop(key, None)

    async def drain(self) -> None:
        """Release what has not begun, finish what has, close every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        drained = [destination.drain() for destination in self._destinations.values()]
        tasks = set[asyncio.Task[None]]().union(*drained)
        if tasks:
            await asyncio.wait(tasks)
