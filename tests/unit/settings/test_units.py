from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.settings.units import LONGEST_MS, duration, format_duration, parse_duration_ms


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("500ms", 500), ("90s", 90_000), ("5m", 300_000), ("72h", 259_200_000), ("3d", 259_200_000)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["", "5", 5, "5 m", "-5m", "1.5h", "5M", "٣s", "5m\n", None, True])
def test_anything_else_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration_ms(text)


@pytest.mark.parametrize("text", ["0s", "50d", "999999999999d"])
def test_a_configured_duration_is_more_than_none_and_fits_a_broker(text: str) -> None:
    with pytest.raises(ValueError, match="is not between 1ms and 49d"):
        duration(text)


@given(st.integers(min_value=1, max_value=LONGEST_MS))
def test_a_printed_duration_reads_back_the_same(milliseconds: int) -> None:
    assert duration(format_duration(milliseconds)) == milliseconds
