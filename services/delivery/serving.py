"""Which partitions are served, and what counts there of those who served them before (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from services.delivery.decisions import Cancel, Release
from services.delivery.dispatching import MINUTE, Dispatching
from services.delivery.holding import Partition, Prefetch, Trace
from services.delivery.site_state import PartitionState, Site, traces_of
from services.delivery.waiting import AGAIN, Waiting
from shared.plan.limits import Limits


class Serving(Dispatching):
    """The sites by partition. `limits_of` finds the limits of a site by a job's sample."""

    def __init__(
        self, limits_of: Callable[[Any], Limits], idle_timeout: float, most: int = 2000
    ) -> None:
        super().__init__(idle_timeout, most)
        self._limits_of = limits_of
        self._partitions: dict[Partition, PartitionState] = {}
        self._residual: dict[tuple[Partition, str], int] = {}

    def take(
        self,
        key: Partition,
        prefetch: Prefetch,
        now: float,
        *,
        fresh: bool,
        traces: Iterable[Trace] = (),
    ) -> None:
        """Begin to serve a partition; see `holding.Holder.take`."""
        partition = self._partitions.get(key)
        if partition is None:
            partition = self._partitions[key] = PartitionState(key)
        partition.serving, partition.paused = True, False
        partition.fresh, partition.taken = fresh, now
        partition.prefetch = [prefetch.first] * AGAIN + [prefetch.again] * AGAIN
        partition.traces = {trace.site: trace for trace in traces}
        for trace in partition.traces.values():
            self._residual[key, trace.site] = trace.connections
        for site in partition.sites.values():
            self._inherit(site)

    def pause(self, key: Partition) -> None:
        """Begin nothing more in a partition."""
        self._partitions[key].paused = True

    def give_up(self, key: Partition, now: float) -> Sequence[Trace]:
        """Serve a partition no more: what has not begun is released, what has goes on."""
        partition = self._partitions[key]
        partition.serving, partition.paused = False, True
        sites = list(partition.sites.values())
        for site in sites:
            self._abandon(site)
            self._arm(site, now + MINUTE)
        traces = traces_of(sites, now)
        if not sites:
            del self._partitions[key]
        return traces

    def remains(self, now: float) -> Sequence[Trace]:
        """What is still open of partitions that were given up."""
        sites = [site for site in self._sites() if not site.partition.serving and site.connections]
        return traces_of(sites, now)

    def heed(self, remains: Iterable[Trace], now: float) -> None:
        """What all others still have open of partitions that are served here."""
        before = self._residual
        self._residual = {
            (Partition(trace.lane, trace.number), trace.site): trace.connections
            for trace in remains
            if trace.connections
        }
        for key, name in before.keys() | self._residual.keys():
            partition = self._partitions.get(key)
            site = partition.sites.get(name) if partition is not None else None
            if site is not None:
                site.residual = self._residual.get((key, name), 0)
                site.refresh()
                self._shrink(site)
                self._dispatch(site, now)

    def _sites(self) -> Iterator[Site]:
        for partition in list(self._partitions.values()):
            yield from list(partition.sites.values())

    def _new_site(self, partition: PartitionState, item: Waiting, now: float) -> Site:
        site = Site(partition, item.site, item.sample)
        limits = self._limits_of(item.sample)
        site.set_limits(limits, now)
        partition.sites[item.site] = site
        self._inherit(site)
        return site

    def _inherit(self, site: Site) -> None:
        """What former owners did counts, as they told it or as much as they may have done."""
        partition = site.partition
        site.residual = self._residual.get((partition.key, site.name), 0)
        site.refresh()
        trace = partition.traces.get(site.name)
        if partition.fresh and trace is None:
            return
        if site.pace is not None:
            site.pace.next = max(site.pace.next, partition.taken + site.pace.interval)
        if trace is not None:
            site.window.adopt(trace.opened, partition.taken)
        else:
            site.window.assume(site.limits.connections_per_minute, partition.taken)

    def _abandon(self, site: Site) -> None:
        """Release what has not begun, close what is idle, stop opening."""
        items = list(site.own)
        site.own.clear()
        for route in site.routes.values():
            for urgent in (1, 0):
                while route.ready[urgent]:
                    items.append(site.pop(route, urgent))
            while route.idle:
                self._close(site.take_idle(route))
        for holding in site.holding:
            while holding:
                connection = holding.pop()
                assert connection.item is not None
                items.append(connection.item)
                connection.item = None
                self._close(connection)
        for connection in site.opening:
            self._decided.append(Cancel(connection))
        for item in items:
            site.partition.held[item.queue] -= 1
            self._decided.append(Release(item))

    def _forget(self, site: Site) -> None:
        partition = site.partition
        partition.sites.pop(site.name, None)
        if not partition.serving and not partition.sites:
            self._partitions.pop(partition.key, None)
