"""The queue of password checks is short, and nobody fills it alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import argon2
import pytest

from services.ingress.passwords import AT_ONCE, MOST_OF_PLACE, MOST_WAITING, Busy, PasswordChecks

HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret")


async def begin(checks: PasswordChecks, password: str, place: str) -> asyncio.Task[bool]:
    """A check that has been asked for; the threads do not answer before the loop turns."""
    task = asyncio.ensure_future(checks.fits(HASH, password.encode(), place))
    await asyncio.sleep(0)
    return task


Held = tuple[PasswordChecks, threading.Event]


@pytest.fixture
def held() -> Iterator[Held]:
    """Checks whose threads answer once the event is set."""
    checks, go = PasswordChecks(), threading.Event()
    for _ in range(AT_ONCE):
        checks._threads.submit(go.wait)
    yield checks, go
    go.set()
    checks.close()


async def is_busy(checks: PasswordChecks, place: str) -> bool:
    task = await begin(checks, "more", place)
    await asyncio.sleep(0)
    return task.done() and isinstance(task.exception(), Busy)


async def test_one_place_cannot_fill_the_queue_and_all_together_cannot_overfill_it(
    held: Held,
) -> None:
    checks, go = held
    begun = [await begin(checks, f"p{n}", "one") for n in range(MOST_OF_PLACE)]
    assert await is_busy(checks, "one")
    places = [f"place {n % 10}" for n in range(MOST_WAITING - MOST_OF_PLACE)]
    begun += [await begin(checks, f"q{n}", place) for n, place in enumerate(places)]
    assert not any(task.done() for task in begun)
    assert await is_busy(checks, "another")
    go.set()
    assert await asyncio.gather(*begun) == [False] * MOST_WAITING
    assert await checks.fits(HASH, b"secret", "one")
    assert checks._running == {}
    assert checks._of_place == {}


async def test_equal_checks_are_one_and_outlive_who_goes(held: Held) -> None:
    checks, go = held
    tasks = [await begin(checks, "secret", "one") for _ in range(10 * MOST_WAITING)]
    tasks.pop(0).cancel()
    go.set()
    assert set(await asyncio.gather(*tasks)) == {True}
