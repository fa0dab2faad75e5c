"""What is looked at once a second instead of counted: the age of the oldest job, paused sites."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from services.delivery.holding import Partition
from services.delivery.work import Work
from shared import metrics
from shared.broker.interface import Delivery
from shared.messages.codec import CodecError, decode
from shared.messages.model import DeliveryJob
from shared.settings.shaping import OTHER_PROVIDER

EVERY = 1.0
"""Seconds from one look to the next."""

Group = tuple[str, str]
"""A lane and a message class."""


def ages(
    accepted: Iterable[tuple[Group, float]], groups: Iterable[Group], now: float
) -> Mapping[tuple[str, ...], float]:
    """The age of the oldest in each group, 0 where there is none; seconds since the epoch."""
    oldest: dict[tuple[str, ...], float] = dict.fromkeys(groups, now)
    for group, at in accepted:
        if at < oldest.get(group, now):
            oldest[group] = at
    return {group: now - at for group, at in oldest.items()}


def by_provider(sites: Mapping[str, int], providers: Collection[str]) -> Mapping[str, int]:
    """The same for each of the known providers, the others together."""
    counts = dict.fromkeys(providers, 0)
    for provider, count in sites.items():
        counts[provider if provider in counts else OTHER_PROVIDER] += count
    return counts


class Gauges:
    """Looks. `clock` gives epoch seconds.

    `held` is what is worked on, and `heads` what was handed out and not looked at, of the
    partitions that `partition` tells by queue.
    """

    def __init__(
        self,
        held: Callable[[], Iterable[Work]],
        heads: Callable[[], Sequence[Delivery]],
        partition: Callable[[str], Partition],
        paused: Callable[[], Mapping[str, int]],
        *,
        lanes: Collection[str],
        providers: Collection[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._held = held
        self._heads = heads
        self._partition = partition
        self._paused = paused
        self._groups = [(lane, kind) for lane in lanes for kind in metrics.CLASSES]
        self._providers = providers
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look, and go on."""
        self.look()
        self._timer = asyncio.get_running_loop().call_later(EVERY, self.start)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Once."""
        accepted = [*self._of_held(), *self._of_heads()]
        metrics.oldest_message_seconds.replace(ages(accepted, self._groups, self._clock()))
        paused = by_provider(self._paused(), self._providers)
        metrics.paused_sites.replace({(provider,): count for provider, count in paused.items()})

    def _of_held(self) -> Iterable[tuple[Group, float]]:
        for work in self._held():
            job = work.job
            yield (work.partition.lane, job.message_class.value), job.accepted_at

    def _of_heads(self) -> Iterable[tuple[Group, float]]:
        for delivery in self._heads():
            try:
                job = decode(delivery.body)
            except CodecError:
                continue  # it will be parked when its turn has come
            if isinstance(job, DeliveryJob):
                lane = self._partition(delivery.queue).lane
                yield (lane, job.message_class.value), job.accepted_at
