"""All destinations this worker has work for, each with its own connections."""

from __future__ import annotations

import asyncio

from services.delivery.destination import Destination, Tools
from services.delivery.work import Work
from shared.messages.model import MailExchanger

_Key = tuple[str, bool, tuple[MailExchanger, ...]]


class Pool:
    """Gives work to connections. A destination is forgotten with its last connection."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._destinations: dict[_Key, Destination] = {}

    def submit(self, work: Work) -> None:
        """Attempt the job as soon as a connection is free."""
        job = work.job
        key = (job.destination, job.static, job.exchangers)
        destination = self._destinations.get(key)
        if destination is None:
            destination = Destination(self._tools, lambda: self._forget(key))
            self._destinations[key] = destination
        destination.submit(work)

    def _forget(self, key: _Key) -> None:
        self._destinations.pop(key, None)

    async def drain(self) -> None:
        """Release what has not begun, finish what has, close every connection."""
        drained = [destination.drain() for destination in self._destinations.values()]
        tasks = set[asyncio.Task[None]]().union(*drained)
        if tasks:
            await asyncio.wait(tasks)
