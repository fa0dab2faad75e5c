"""Retry delays and giving up."""

from __future__ import annotations

import pytest

from shared.mail.schedule import is_expired, next_delay_ms

SCHEDULE = (60_000, 300_000, 900_000)


def test_each_attempt_waits_longer_and_the_last_delay_repeats() -> None:
    delays = [next_delay_ms(SCHEDULE, attempt) for attempt in range(1, 6)]
    assert delays == [60_000, 300_000, 900_000, 900_000, 900_000]


@pytest.mark.parametrize(("schedule", "attempt"), [((), 1), (SCHEDULE, 0)])
def test_a_schedule_without_an_answer_is_an_error(schedule: tuple[int, ...], attempt: int) -> None:
    with pytest.raises(ValueError, match="attempts count from 1"):
        next_delay_ms(schedule, attempt)


def test_mail_expires_when_it_is_older_than_its_time() -> None:
    assert not is_expired(1000.0, 1010.0, 10_000, 5)
    assert is_expired(1000.0, 1010.1, 10_000, 5)


def test_a_clock_that_jumps_ahead_does_not_expire_mail_tried_once() -> None:
    assert not is_expired(1000.0, 9e9, 10_000, 1)
