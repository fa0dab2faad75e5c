"""Counters, gauges and histograms for what happens with every message.

prometheus-client takes a lock and five calls for each of its numbers, a fifth of what a delivery
costs. Here counting is an addition; what Prometheus wants is made when it asks. One thread counts:
that of the event loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

Bucket = tuple[str, float] | tuple[str, float, Exemplar]


class Count:
    """One number. That of a counter only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """So many more."""
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        """So many less."""
        self.value -= amount


class Spread:
    """How many observations lie up to each of `bounds`, and above all."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: dict[int, Exemplar] = {}
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count one observation, or several of the same value."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.total += value * times

    def exemplify(self, value: float, trace_id: str, at: float) -> None:
        """An observation of this value has a trace that can be looked at; the newest is told.

        Beside `observe`, since nearly none has one. `at` is in seconds since the epoch.
        """
        exemplar = Exemplar({"trace_id": trace_id}, value, at)
        self._exemplars[bisect_left(self._bounds, value)] = exemplar

    def buckets(self) -> list[Bucket]:
        """As Prometheus has them: upper bound, how many lie up to it, and an exemplar if any."""
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        exemplars = self._exemplars.copy()
        return [
            (name, count, exemplars[number]) if number in exemplars else (name, count)
            for number, (name, count) in enumerate(
                zip(names, accumulate(self._counts), strict=True)
            )
        ]


Child = TypeVar("Child", Count, Spread)


class _Family(Collector, Generic[Child]):
    """A metric with one child for all values of its labels, or a single one without labels."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Iterable[str] = (),
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._children: dict[tuple[str, ...], Child] = {}
        registry.register(self)

    def labels(self, *values: str) -> Child:
        """The child for these values, which starts at 0."""
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self._labels):
                raise ValueError(f"{self._name} has the labels {self._labels}, not {values}")
            child = self._children[values] = self._new()
        return child

    def _new(self) -> Child:
        raise NotImplementedError

    def _each(self) -> list[tuple[tuple[str, ...], Child]]:
        """A copy, since who collects is on another thread than who counts."""
        return list(self._children.items())

    def describe(self) -> Iterable[Metric]:
        """See `Collector`: the name, so that it is registered once."""
        return [self._family()]

    def _family(self) -> Metric:
        raise NotImplementedError


class _Number(_Family[Count]):
    def _new(self) -> Count:
        return Count()

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        family = self._family()
        for values, child in self._each():
            family.add_metric(values, child.value)
        return [family]

    def _family(self) -> CounterMetricFamily | GaugeMetricFamily:
        raise NotImplementedError


class TalliedCounter(_Number):
    """In place of `prometheus_client.Counter`."""

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self._name, self._documentation, labels=self._labels)


class TalliedGauge(_Number):
    """In place of `prometheus_client.Gauge`."""

    def replace(self, values: Mapping[tuple[str, ...], float]) -> None:
        """These are all children from now on: what is not known any more is not told either."""
        children: dict[tuple[str, ...], Count] = {}
        for labels, value in values.items():
            children[labels] = child = Count()
            child.value = value
        self._children = children

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._documentation, labels=self._labels)


class TalliedHistogram(_Family[Spread]):
    """In place of `prometheus_client.Histogram`; `bounds` are the upper ones, ascending."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Iterable[str] = (),
        *,
        bounds: Sequence[float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._bounds = bounds
        super().__init__(name, documentation, labels, registry)

    def _new(self) -> Spread:
        return Spread(self._bounds)

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        family = self._family()
        for values, child in self._each():
            family.add_metric(values, child.buckets(), child.total)
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
