"""What every metric is: its labels and their values, its unit, and which services expose it.

`shared.metrics` declares each metric here once. From that come the page of a service's metrics,
the children that start at 0, and `docs/metrics.md`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
)

from shared.tally import TalliedCounter, TalliedGauge, TalliedHistogram

Kind = Counter | Gauge | Histogram | TalliedCounter | TalliedGauge | TalliedHistogram
M = TypeVar("M", Counter, Gauge, Histogram, TalliedCounter, TalliedGauge, TalliedHistogram)

INGRESS, ROUTER, DELIVERY = "ingress", "router", "delivery"
ALL = (INGRESS, ROUTER, DELIVERY)


class Configured(StrEnum):
    """Values of a label that the configuration bounds, as the reference page tells them."""

    PROVIDER = "the names in `providers`, those that postroad knows by itself, `other`"
    LANE = "the names in `lanes`"
    PARTITION = "0 to `lanes[].partitions` - 1"
    RETRY_STEP = (
        "the delays in `delivery.retry_schedule`; for mail with a deadline also the wait steps "
        "`1s` `5s` `30s` `2m` `10m`"
    )
    STEP = (
        "the delays in `delivery.retry_schedule`, the wait steps `1s` `5s` `30s` `2m` `10m`, "
        "`due` and `crowd`: the delay is over, and the router has not taken them yet"
    )
    DOMAIN = "the names in `metrics.domains`, at most 50"
    VERSION = "the version of postroad"


Values = tuple[str, ...] | Configured


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric. `services` expose it; a label has the values that `labels` names, no others."""

    metric: Kind
    name: str
    kind: str
    meaning: str
    unit: str
    services: tuple[str, ...]
    labels: Mapping[str, Values]


CATALOGUE: list[Declared] = []


def declare(
    kind: Callable[[str, str, Collection[str]], M],
    name: str,
    meaning: str,
    unit: str,
    services: str | tuple[str, ...],
    /,
    **values: Values,
) -> M:
    """A new metric with these labels (`class_` is `class`), which stand at 0 as far as known."""
    labels = {label.rstrip("_"): known for label, known in values.items()}
    metric = kind(name, meaning, tuple(labels))
    type_ = next(iter(metric.describe())).type
    full = f"{name}_total" if type_ == "counter" else name
    services = (services,) if isinstance(services, str) else services
    declared = Declared(metric, full, type_, meaning, unit, services, labels)
    CATALOGUE.append(declared)
    _start_at_zero(declared, {})
    return metric


def start_at_zero(service: str, configured: Mapping[Configured, Collection[str]]) -> None:
    """All counters of a service whose labels' values are known now.

    An alert on a rate then sees the first failure.
    """
    for declared in CATALOGUE:
        if service in declared.services:
            _start_at_zero(declared, configured)


def _start_at_zero(declared: Declared, configured: Mapping[Configured, Collection[str]]) -> None:
    if not declared.labels or declared.kind == "gauge":
        return
    values: list[Iterable[str]] = []
    for known in declared.labels.values():
        if isinstance(known, Configured):
            if known not in configured:
                return
            values.append(configured[known])
        else:
            values.append(known)
    for labels in itertools.product(*values):
        declared.metric.labels(*labels)


def registry_of(service: str) -> CollectorRegistry:
    """What `/metrics` of a service shows: its own metrics, and those of the process."""
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    for declared in CATALOGUE:
        if service in declared.services:
            registry.register(declared.metric)
    return registry
