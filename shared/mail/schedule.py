"""When to try again and when to give up (pure; RFC 5321, 4.5.4.1)."""

from __future__ import annotations

from collections.abc import Sequence

LEAST_ATTEMPTS = 2
"""A clock that jumps ahead must not expire mail that was hardly tried."""


def next_delay_ms(schedule: Sequence[int], attempts_made: int) -> int:
    """Milliseconds to wait after the attempt with that number (1 is the first); the last repeats.

    Raises ValueError for an empty schedule or an attempt below 1.
    """
    if not schedule or attempts_made < 1:
        raise ValueError("a schedule needs steps, and attempts count from 1")
    return schedule[min(attempts_made, len(schedule)) - 1]


def is_expired(accepted_at: float, now: float, max_age_ms: int, attempts: int) -> bool:
    """Whether to give up: old enough, and tried often enough. Times are epoch seconds."""
    return (now - accepted_at) * 1000 > max_age_ms and attempts >= LEAST_ATTEMPTS
