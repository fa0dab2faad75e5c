"""Our own counting exports exactly what prometheus-client's exports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from shared.tally import TalliedCounter, TalliedGauge, TalliedHistogram

BOUNDS = (0.1, 1, 5)


def samples(registry: CollectorRegistry) -> set[str]:
    lines = generate_latest(registry).decode().splitlines()
    return {line for line in lines if "_created" not in line}


def test_the_same_value_is_observed_several_times_at_once() -> None:
    at_once, one_by_one = (
        TalliedHistogram("c", "", bounds=BOUNDS, registry=CollectorRegistry()) for _ in range(2)
    )
    at_once.labels().observe(0.5, 3)
    for _ in range(3):
        one_by_one.labels().observe(0.5)
    assert list(at_once.collect()) == list(one_by_one.collect())


def test_what_replaced_values_leave_out_is_told_no_more() -> None:
    registry = CollectorRegistry()
    gauge = TalliedGauge("b", "", ["kind"], registry=registry)
    gauge.replace({("x",): 1, ("y",): 2})
    gauge.replace({("y",): 3})
    assert [line for line in samples(registry) if line.startswith("b")] == ['b{kind="y"} 3.0']
    gauge.replace({})
    assert not [line for line in samples(registry) if line.startswith("b")]


def test_a_value_for_each_label_is_needed() -> None:
    counter = TalliedCounter("a", "", ["one", "two"], registry=CollectorRegistry())
    with pytest.raises(ValueError, match=r"a has the labels"):
        counter.labels("x")


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


def test_an_exemplar_is_told_in_its_bucket_and_the_newest_stays() -> None:
    registry = CollectorRegistry()
    histogram = TalliedHistogram("c", "Told.", ["kind"], bounds=BOUNDS, registry=registry)
    child = histogram.labels("x")
    for value, trace_id in ((0.5, "old"), (0.7, "new"), (9.0, "slow")):
        child.observe(value)
        child.exemplify(value, trace_id, 1000.0)

    page = generate_openmetrics(registry).decode()
    (family,) = text_string_to_metric_families(page)
    found = {one.labels["le"]: one.exemplar for one in family.samples if one.exemplar is not None}
    assert {bound: (one.labels, one.value) for bound, one in found.items()} == {
        "1.0": ({"trace_id": "new"}, 0.7),
        "+Inf": ({"trace_id": "slow"}, 9.0),
    }
    assert "trace_id" not in generate_latest(registry).decode(), "the older form has none"
