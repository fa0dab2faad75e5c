from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mail.deadline import SHORT_MS, is_overdue, wait_before
from shared.messages.model import DeliverBy

STEPS = (1_000, 5_000, 30_000, 60_000, 120_000, 300_000, 600_000, 3_600_000)


@pytest.mark.parametrize(
    ("by", "now", "overdue"),
    [
        (None, 9e9, False),
        (DeliverBy(100.0), 101.0, False),
        (DeliverBy(100.0, returns=True), 99.9, False),
        (DeliverBy(100.0, returns=True), 100.0, True),
    ],
)
def test_only_what_is_to_be_returned_is_overdue(
    by: DeliverBy | None, now: float, overdue: bool
) -> None:
    assert is_overdue(by, now) == overdue


def test_nobody_waits_less_for_a_deadline_that_there_is_not() -> None:
    assert wait_before(None, 3_600_000, 0.0, STEPS) == 3_600_000
    assert wait_before(DeliverBy(10.0, told=True), 3_600_000, 0.0, STEPS) == 3_600_000


@given(st.floats(0, 90_000), st.sampled_from(STEPS), st.booleans())
def test_a_deadline_is_met_step_by_step(seconds: float, delay_ms: int, returns: bool) -> None:
    by, now, waits = DeliverBy(seconds, returns), 0.0, 0
    while now < seconds:
        step = wait_before(by, delay_ms, now, STEPS)
        assert step in STEPS
        assert step <= delay_ms
        now += step / 1000
        waits += 1
    assert now <= seconds + SHORT_MS / 1000
    assert waits <= seconds * 1000 / delay_ms + 40
