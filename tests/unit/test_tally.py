"""Our own counting exports exactly what prometheus-client's exports."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from shared.tally import TalliedCounter, TalliedGauge, TalliedHistogram

BOUNDS = (0.1, 1, 5)


def samples(registry: CollectorRegistry) -> set[str]:
    lines = generate_latest(registry).decode().splitlines()
    return {line for line in lines if "_created" not in line}


@given(st.lists(st.floats(0, 10), max_size=20), st.integers(0, 5))
def test_what_is_exported_is_what_prometheus_client_exports(values: list[float], less: int) -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    counters = (
        Counter("a", "Told.", ["kind"], registry=theirs).labels("x"),
        TalliedCounter("a", "Told.", ["kind"], registry=ours).labels("x"),
    )
    gauges = Gauge("b", "", registry=theirs), TalliedGauge("b", "", registry=ours).labels()
    histograms = (
        Histogram("c", "", ["kind"], buckets=BOUNDS, registry=theirs).labels("x"),
        TalliedHistogram("c", "", ["kind"], bounds=BOUNDS, registry=ours).labels("x"),
    )
    for value in (*values, *BOUNDS):
        for counted in (*counters, *gauges):
            counted.inc(value)
        for observed in histograms:
            observed.observe(value)
    for gauge in gauges:
        gauge.dec(less)
    assert samples(ours) == samples(theirs)
