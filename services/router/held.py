"""How many messages the router holds: the gauge follows once a turn of the loop, not each time."""

from __future__ import annotations

import asyncio

from shared import metrics


class Held:
    """A count, and waiting until it is none."""

    def __init__(self) -> None:
        self._count = 0
        self._told = 0
        self._tells = False
        self._none = asyncio.Event()
        self._none.set()

    def begin(self) -> None:
        """One more."""
        self._count += 1
        if not self._tells:
            self._tell_soon()

    def end(self) -> None:
        """One less."""
        self._count -= 1
        if not self._tells:
            self._tell_soon()

    async def none(self) -> None:
        """Return when nothing is held, and the gauge says so."""
        while self._count or self._tells:
            self._none.clear()
            await self._none.wait()

    def _tell_soon(self) -> None:
        self._tells = True
        asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._tells = False
        metrics.in_flight.inc(self._count - self._told)
        self._told = self._count
        if not self._count:
            self._none.set()
