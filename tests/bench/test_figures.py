from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.figures import (
    BenchError,
    Mark,
    Stretch,
    check_once,
    delays,
    growth,
    percentile,
)


def test_percentiles_are_values_that_occurred() -> None:
    hundred = [float(number) for number in range(100, 0, -1)]
    assert [percentile(hundred, percent) for percent in (0, 1, 50, 99, 100)] == [1, 1, 50, 99, 100]
    assert percentile([3.0], 99) == 3.0
    assert percentile([1.0, 2.0], 51) == 2.0
    with pytest.raises(ValueError, match="of nothing"):
        percentile([], 50)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_that_many_percent_do_not_exceed_a_percentile(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert sum(value <= found for value in values) >= len(values) * percent / 100
    assert sum(value < found for value in values) < len(values) * percent / 100


def test_growth_is_in_percent() -> None:
    assert growth(1.2, 1.0) == pytest.approx(20)
    assert growth(0.5, 1.0) == pytest.approx(-50)


def test_a_stretch_counts_only_what_lies_between_its_marks() -> None:
    first = Mark(10.0, 1_000, {"service": 1.0, "broker": 5.0})
    last = Mark(14.0, 9_000, {"service": 1.8, "broker": 7.0})
    stretch = Stretch.between(first, last)
    assert (stretch.messages, stretch.rate) == (8_000, 2_000.0)
    assert stretch.cpu_ms("service") == pytest.approx(0.1)
    assert stretch.cores == pytest.approx(0.7)


def test_a_stretch_without_a_message_is_no_measurement() -> None:
    mark = Mark(10.0, 1_000, {})
    with pytest.raises(BenchError):
        Stretch.between(mark, Mark(11.0, 1_000, {}))
    with pytest.raises(BenchError):
        Stretch.between(mark, Mark(10.0, 1_001, {}))


def test_lost_and_repeated_messages_are_errors_and_others_do_not_matter() -> None:
    check_once(["a", "b"], {"a": 1, "b": 1, "of another run": 7})
    with pytest.raises(BenchError, match="of 3 messages 1 are lost, 1 came more than once"):
        check_once(["a", "b", "c"], {"a": 1, "b": 2})


def test_a_delay_runs_from_acceptance_to_receipt() -> None:
    assert delays({"a": 1.0, "b": 2.0}, {"b": [2.5], "a": [1.25], "c": [0.0]}) == [0.25, 0.5]
    with pytest.raises(BenchError, match="1 are lost"):
        delays({"a": 1.0}, {})
    with pytest.raises(BenchError, match="1 came more than once"):
        delays({"a": 1.0}, {"a": [1.5, 2.5]})
