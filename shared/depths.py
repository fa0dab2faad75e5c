"""How much waits in the queues: asked of the broker from time to time, beside the work.

What it does not answer is forgotten, so that an old number is never shown as a new one. See
`docs/metrics.md` for what the numbers mean.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from shared import metrics
from shared.broker.interface import Broker, Unavailable
from shared.broker.topology import (
    ACCEPTED,
    CROWD,
    DUE,
    GUARANTEED_EVENTS,
    PARKED,
    WAIT_STEPS_MS,
    retry_queue,
)
from shared.logs import get_logger
from shared.settings.model import Settings
from shared.settings.units import format_duration

EVERY = 15.0
"""Seconds from one question to the next."""
PATIENCE = 10.0
"""Seconds for an answer."""

Labels = tuple[str, str, str]
"""Lane, class and kind of a lane queue."""


@runtime_checkable
class Serving(Protocol):
    """A service that serves lane queues."""

    def served(self) -> Mapping[str, Labels]:
        """The queues that it serves now."""


def no_lanes() -> Mapping[str, Labels]:
    """Of a service that serves none."""
    return {}


def steps_of(settings: Settings) -> Mapping[str, str]:
    """The queues of the ladder, each with the name of its step."""
    delays = {*settings.delivery.retry_schedule, *WAIT_STEPS_MS}
    steps = {
        retry_queue(delay, due): format_duration(delay) for due in (DUE, CROWD) for delay in delays
    }
    return {**steps, DUE: "due", CROWD: "crowd"}


class DepthWatch:
    """Keeps the gauges. `steps` are as `steps_of` has them; `served` as in `Serving`.

    `events` tells whether there are guaranteed ones.
    """

    def __init__(
        self,
        broker: Broker,
        steps: Mapping[str, str],
        served: Callable[[], Mapping[str, Labels]] = no_lanes,
        *,
        events: bool = False,
        every: float = EVERY,
        patience: float = PATIENCE,
    ) -> None:
        self._broker = broker
        self._steps = steps
        self._served = served
        self._ours = [ACCEPTED, PARKED, *([GUARANTEED_EVENTS] if events else [])]
        self._every = every
        self._patience = patience
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Ask no more, and forget what was said."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        _forget()

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
            except (Unavailable, TimeoutError):
                _forget()
            except Exception as error:
                # Whatever goes wrong here, the service goes on.
                get_logger().warning("depths of queues", error=repr(error))
                _forget()
            await asyncio.sleep(self._every)

    async def _look(self) -> None:
        if not (self._broker.usable or self._broker.blocked):
            raise Unavailable("not connected")
        lanes = self._served()
        async with asyncio.timeout(self._patience):
            depths = await self._broker.depths([*self._ours, *self._steps, *lanes])
        self._show(depths, lanes)

    def _show(self, depths: Mapping[str, int], lanes: Mapping[str, Labels]) -> None:
        steps: Counter[tuple[str, ...]] = Counter()
        for queue, step in self._steps.items():
            steps[(step,)] += depths[queue]
        queued: Counter[tuple[str, ...]] = Counter()
        for queue, labels in lanes.items():
            queued[labels] += depths[queue]
        metrics.waiting_jobs.replace(steps)
        metrics.queued_jobs.replace(queued)
        metrics.accepted_waiting.replace({(): depths[ACCEPTED]})
        metrics.parked_waiting.replace({(): depths[PARKED]})
        if GUARANTEED_EVENTS in depths:
            metrics.guaranteed_events_waiting.replace({(): depths[GUARANTEED_EVENTS]})


def _forget() -> None:
    for gauge in (
        metrics.waiting_jobs,
        metrics.queued_jobs,
        metrics.accepted_waiting,
        metrics.parked_waiting,
        metrics.guaranteed_events_waiting,
    ):
        gauge.replace({})
