"""Which batches wait for the disk: those that somebody outside has been promised."""

from __future__ import annotations

import asyncio

from shared.broker.embedded.records import Batch, Park, Post
from shared.broker.interface import ParkReason


async def test_a_publish_waits_for_the_disk_and_a_move_only_if_it_is_to_last() -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    published, moved = Post([], done, 0.0), Post([], done, 0.0, predecessor=1, lasting=False)
    ended = Post([], done, 0.0, predecessor=2)
    assert Batch(posts=[published]).durable()
    assert Batch(posts=[ended]).durable()
    assert not Batch(posts=[moved], acks=[3]).durable()
    assert Batch(posts=[moved, published]).durable()
    assert Batch(posts=[moved], parks=[Park(4, "", ParkReason.UNSAFE_CONTENT, done)]).durable()
