"""W3C Trace Context: exactly the values that the standard permits, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.tracing.traceparent import LONGEST, Traceparent, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def digits(count: int) -> st.SearchStrategy[str]:
    some = st.text("0123456789abcdef", min_size=count, max_size=count)
    return some.filter(lambda text: text.strip("0") != "")


@given(digits(32), digits(16), st.booleans())
def test_what_we_write_is_what_we_read(trace_id: str, span_id: str, sampled: bool) -> None:
    value = Traceparent(trace_id, span_id, sampled)

    assert parse_traceparent(str(value)) == value


@given(st.text() | st.text("0123456789abcdef-", max_size=60))
def test_any_text_is_a_value_that_can_be_written_or_none(text: str) -> None:
    value = parse_traceparent(text)

    assert value is None or parse_traceparent(str(value)) == value


@given(digits(32), digits(16), st.integers(0, 255))
def test_of_the_flags_only_the_lowest_counts(trace_id: str, span_id: str, flags: int) -> None:
    value = parse_traceparent(f"00-{trace_id}-{span_id}-{flags:02x}")

    assert value == Traceparent(trace_id, span_id, sampled=bool(flags & 1))


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    known = Traceparent(TRACE, SPAN, sampled=True)

    assert parse_traceparent(f"01-{TRACE}-{SPAN}-01") == known
    assert parse_traceparent(f"fe-{TRACE}-{SPAN}-01-what else") == known


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"01-{TRACE}-{SPAN}-01more",
        f"01-{TRACE}-{SPAN}-01-{'x' * LONGEST}",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-0١",
    ],
)
def test_what_is_malformed_is_worthless(text: str) -> None:
    assert parse_traceparent(text) is None
