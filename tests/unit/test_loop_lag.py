from __future__ import annotations

import asyncio
import time

from prometheus_client import REGISTRY

from shared.loop_lag import LoopLag
from tests.support.pipeline import eventually

EVERY = 0.02
BLOCKED = 0.1


def value(suffix: str) -> float:
    return REGISTRY.get_sample_value(f"postroad_loop_lag_seconds_{suffix}") or 0.0


async def test_what_holds_up_the_loop_is_seen_as_lag() -> None:
    count, seconds = value("count"), value("sum")
    lag = LoopLag(EVERY)
    lag.start()
    time.sleep(BLOCKED)

    async def seen() -> bool:
        return value("count") > count

    await eventually(seen, "a look at the loop")
    assert value("sum") - seconds >= BLOCKED - EVERY
    lag.stop()


async def test_it_goes_on_looking_until_it_is_stopped() -> None:
    count = value("count")
    lag = LoopLag(EVERY)
    lag.start()

    async def often() -> bool:
        return value("count") >= count + 3

    await eventually(often, "three looks")
    lag.stop()
    count = value("count")
    await asyncio.sleep(2 * EVERY)
    assert value("count") == count
