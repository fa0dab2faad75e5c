"""The queue of password checks is short, and nobody fills it alone."""

from __future__ import annotations

import asyncio

import argon2
import pytest

from services.ingress.passwords import MOST_OF_PLACE, MOST_WAITING, Busy, PasswordChecks

HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret")


async def begin(checks: PasswordChecks, password: str, place: str) -> asyncio.Task[bool]:
    """A check that has been asked for; the threads do not answer before the loop turns."""
    task = asyncio.ensure_future(checks.fits(HASH, password.encode(), place))
    await asyncio.sleep(0)
    return task


class Held(PasswordChecks):
    """Whose threads answer when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        loop = asyncio.get_running_loop()
        for _ in range(2):
            self._threads.submit(
                lambda: asyncio.run_coroutine_threadsafe(self.go.wait(), loop).result()
            )


async def test_one_place_cannot_fill_the_queue_and_all_together_cannot_overfill_it() -> None:
    checks = Held()
    begun = [await begin(checks, f"p{n}", "one") for n in range(MOST_OF_PLACE)]
    with pytest.raises(Busy):
        await checks.fits(HASH, b"more", "one")
    places = [f"place {n % 10}" for n in range(MOST_WAITING - MOST_OF_PLACE)]
    begun += [await begin(checks, f"q{n}", place) for n, place in enumerate(places)]
    assert not any(task.done() for task in begun)
    with pytest.raises(Busy):
        await checks.fits(HASH, b"more", "another")
    checks.go.set()
    assert await asyncio.gather(*begun) == [False] * MOST_WAITING
    assert await checks.fits(HASH, b"secret", "one")
    assert checks._running == {}
    assert checks._of_place == {}
    checks.close()


async def test_equal_checks_are_one_and_outlive_who_goes() -> None:
    checks = Held()
    tasks = [await begin(checks, "secret", "one") for _ in range(10 * MOST_WAITING)]
    tasks.pop(0).cancel()
    checks.go.set()
    assert set(await asyncio.gather(*tasks)) == {True}
    checks.close()
