"""Batches between the loop and a thread: nothing lost, one wake-up a batch."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import AsyncIterator

import pytest

from shared.broker.amqp.handover import Handover, tell

PATIENCE = 10.0


@pytest.fixture
async def handover() -> AsyncIterator[Handover[int]]:
    made: Handover[int] = Handover(asyncio.get_running_loop())
    yield made
    made.close()


def is_rung(handover: Handover[int]) -> bool:
    return bool(select.select([handover], [], [], 0)[0])


async def test_all_commands_of_one_turn_are_one_batch_with_one_wake_up(
    handover: Handover[int],
) -> None:
    for number in range(5):
        handover.submit(number)
    assert not is_rung(handover)
    await asyncio.sleep(0)
    assert os.read(handover.fileno(), 64) == b"!"
    assert handover.take() == [0, 1, 2, 3, 4]
    assert handover.take() == []


async def test_a_thread_that_was_woken_and_has_not_looked_yet_is_not_woken_again(
    handover: Handover[int],
) -> None:
    for number in range(3):
        handover.submit(number)
        await asyncio.sleep(0)
    assert os.read(handover.fileno(), 64) == b"!"
    assert handover.take() == [0, 1, 2]


async def test_nothing_is_lost_between_a_loop_and_a_thread_in_a_hurry(
    handover: Handover[int],
) -> None:
    count = 20_000
    seen: list[int] = []

    def serve() -> None:
        while len(seen) < count:
            if not select.select([handover], [], [], PATIENCE)[0]:
                return
            seen.extend(handover.take())

    thread = threading.Thread(target=serve)
    thread.start()
    for number in range(count):
        handover.submit(number)
        if number % 7 == 0:
            await asyncio.sleep(0)
    await asyncio.to_thread(thread.join)
    assert seen == list(range(count))


async def test_a_closed_handover_rings_nobody(handover: Handover[int]) -> None:
    handover.close()
    handover.submit(1)
    await asyncio.sleep(0)
    handover.close()
    assert len(handover) == 1


def test_a_loop_that_is_closed_is_told_nothing() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    tell(loop, pytest.fail, "called")
