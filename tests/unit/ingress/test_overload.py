"""When it is too much, and when it is over."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from services.ingress.overload import LoadLimits, Overload, is_overloaded, usual

LIMITS = LoadLimits(lag=1.0, memory=1000)


@pytest.mark.parametrize(
    ("before", "lag", "memory", "now"),
    [
        (False, 0.9, 999, False),
        (False, 1.1, 0, True),
        (False, 0.0, 1001, True),
        (True, 0.9, 0, True),
        (True, 0.4, 950, True),
        (True, 0.4, 899, False),
    ],
)
def test_it_begins_above_the_limits_and_ends_well_below(
    before: bool, lag: float, memory: int, now: bool
) -> None:
    assert is_overloaded(before, lag, memory, LIMITS) is now


@pytest.mark.parametrize(
    ("lags", "lag"),
    [
        ([0.0, 0.0, 9.0], 0.0),
        ([0.0, 9.0, 0.1], 0.1),
        ([0.0, 2.0, 3.0], 2.0),
        ([2.0, 0.0, 3.0], 2.0),
    ],
)
def test_one_long_step_is_no_overload_and_two_of_three_are(lags: list[float], lag: float) -> None:
    assert usual(lags) == lag


def test_without_a_limit_memory_does_not_count() -> None:
    assert not is_overloaded(False, 0.0, 10**12, LoadLimits(lag=1.0, memory=0))


async def test_memory_is_looked_at_and_told() -> None:
    used, looked = [2000], asyncio.Event()

    def memory() -> int:
        looked.set()
        return used[0]

    async def look() -> None:
        looked.clear()
        await asyncio.wait_for(looked.wait(), 5)
        await asyncio.sleep(0)

    overload = Overload(LIMITS, memory)
    overload.start()
    try:
        await look()
        assert overload.active
        assert REGISTRY.get_sample_value("postroad_ingress_overloaded") == 1
        used[0] = 0
        await look()
        assert not overload.active
    finally:
        overload.stop()


async def test_the_second_late_look_of_three_is_too_much() -> None:
    overload, now = Overload(LIMITS, lambda: 0), asyncio.get_running_loop().time()
    try:
        overload._sample(now - 60)
        assert not overload.active
        overload._sample(now + 60)
        overload._sample(now - 60)
        assert overload.active
    finally:
        overload.stop()
