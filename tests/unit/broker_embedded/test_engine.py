"""One batch, one transaction: whole or not at all, and what the other processes learn of it."""

from __future__ import annotations

import asyncio
import math
import select
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.broker.embedded.engine import Engine
from shared.broker.embedded.records import (
    Batch,
    Leased,
    Park,
    Post,
    Row,
    Subscription,
    encode_meta,
)
from shared.broker.embedded.store import Store
from shared.broker.interface import ParkReason
from shared.broker.topology import Topology
from tests.conformance.harness import lane, lane_topology

NOW = 1_000_000.0
FULL, NORMAL = 2, 1


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    opened = Engine(tmp_path, Topology(()))
    yield opened
    opened.close()


def connection(engine: Engine) -> sqlite3.Connection:
    return engine._store.connection


def post(name: str, queue: str = "q", at: float | None = None, after: int | None = None) -> Post:
    row = Row(queue, encode_meta(name, {}), b"", None if at is None else "step", at)
    return Post([row], asyncio.get_running_loop().create_future(), 0.0, after)


def consumer(prefetch: int = 10, queue: str = "q") -> Subscription:
    return Subscription(queue, prefetch, lambda _: None)


def take(engine: Engine, batch: Batch | None = None) -> list[Leased]:
    outcome = engine.run(batch or Batch(), NOW)
    return [message for _, leased in outcome.leases for message in leased]


async def test_what_a_batch_publishes_is_leased_in_the_same_transaction(engine: Engine) -> None:
    engine.join(consumer())
    leased = take(engine, Batch(posts=[post("a"), post("b")]))
    assert [message.message_id for message in leased] == ["a", "b"]


async def test_new_messages_for_others_are_stored_in_one_step(engine: Engine) -> None:
    engine.run(Batch(posts=[post("first", "other")]), NOW)
    steps: list[str] = []
    connection(engine).set_trace_callback(steps.append)
    engine.run(Batch(posts=[post("a"), post("b", "other")]), NOW)
    assert any(step.startswith("INSERT INTO arrival") for step in steps)
    assert [step for step in steps if step.startswith(("BEGIN", "COMMIT"))] == []
    assert engine.survey().depths == {"q": 1, "other": 2}


async def test_new_messages_for_a_consumer_that_had_found_none_are_leased_next(
    engine: Engine,
) -> None:
    engine.join(consumer())
    assert take(engine) == []
    assert take(engine, Batch(posts=[post("a")])) == []
    assert [message.message_id for message in take(engine)] == ["a"]


async def test_a_forward_that_cannot_end_stores_no_successor(engine: Engine) -> None:
    engine.join(consumer())
    (message,) = take(engine, Batch(posts=[post("a")]))
    connection(engine).execute(
        "CREATE TRIGGER stuck BEFORE DELETE ON message BEGIN SELECT RAISE(ABORT, 'stuck'); END"
    )
    forward = Batch(posts=[post("a1", "other", after=message.id)])
    with pytest.raises(sqlite3.IntegrityError, match="stuck"):
        engine.run(forward, NOW)
    assert engine.survey().depths == {}
    connection(engine).execute("DROP TRIGGER stuck")
    engine.run(forward, NOW)
    assert engine.survey().depths == {"other": 1}


async def test_a_failed_transaction_leaves_the_room_of_its_consumers_as_it_was(
    engine: Engine,
) -> None:
    sub = consumer(prefetch=1)
    engine.join(sub)
    (message,) = take(engine, Batch(posts=[post("a"), post("b")]))
    connection(engine).execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        engine.run(Batch(acks=[message.id], posts=[post("c") for _ in range(500)]), NOW)
    assert sub.held == 1
    assert take(engine) == []


async def test_publishes_forwards_and_parkings_wait_for_the_disk_and_the_rest_does_not(
    engine: Engine,
) -> None:
    engine.join(consumer())
    levels = []

    def level() -> None:
        levels.append(connection(engine).execute("PRAGMA synchronous").fetchone()[0])

    first, second, third = take(engine, Batch(posts=[post("a"), post("b"), post("c")]))
    level()
    engine.run(Batch(acks=[first.id]), NOW)
    level()
    engine.run(Batch(posts=[post("b1", "other", after=second.id)]), NOW)
    level()
    engine.run(Batch(), NOW)
    level()
    done = asyncio.get_running_loop().create_future()
    meta = encode_meta("c", {})
    engine.run(Batch(parks=[Park(third.id, meta, ParkReason.UNDECODABLE, done)]), NOW)
    level()
    assert levels == [FULL, NORMAL, FULL, NORMAL, FULL]


async def test_a_publish_rings_at_the_consumers_of_other_processes(
    engine: Engine, tmp_path: Path
) -> None:
    another = Engine(tmp_path, Topology(()))
    bell = another.doorbells.listen("q")
    engine.keep_house()
    engine.run(Batch(posts=[post("a")]), NOW)
    assert select.select([bell], [], [], 0)[0] == [bell]
    another.close()


async def test_the_next_due_time_follows_what_is_delayed_and_what_became_due(
    engine: Engine,
) -> None:
    assert engine.due == math.inf
    engine.run(Batch(posts=[post("late", at=NOW + 20)]), NOW)
    engine.run(Batch(posts=[post("early", at=NOW + 10)]), NOW)
    assert engine.due == NOW + 10
    engine.run(Batch(), NOW + 10)
    assert engine.due == NOW + 20
    assert engine.survey().depths == {"q": 1, "step": 1}


async def test_a_consumer_that_left_is_leased_no_more(engine: Engine) -> None:
    sub = consumer()
    engine.join(sub)
    engine.leave(sub)
    engine.leave(sub)
    assert take(engine, Batch(posts=[post("a")])) == []


async def test_a_bell_that_rings_admits_a_consumer_that_stood_by(tmp_path: Path) -> None:
    topology = lane_topology(x=1)
    left, right = Engine(tmp_path, topology), Engine(tmp_path, topology)
    first, second = consumer(queue=lane(0)), consumer(queue=lane(0))
    left.join(first)
    left.admit()
    right.join(second)
    right.admit()
    bell = right.doorbells.listen(lane(0))
    left.keep_house()
    assert take(right, Batch(posts=[post("a", lane(0))])) == []
    left.leave(first)
    assert select.select([bell], [], [], 0)[0] == [bell]
    right.answer(bell)
    assert [message.message_id for message in take(right)] == ["a"]
    left.close()
    right.close()


async def test_an_engine_that_closes_gives_back_before_others_are_served(tmp_path: Path) -> None:
    topology = lane_topology(x=1)
    left, right = Engine(tmp_path, topology), Engine(tmp_path, topology)
    left.join(consumer(queue=lane(0)))
    left.admit()
    names = [f"{number}" for number in range(15)]
    assert len(take(left, Batch(posts=[post(name, lane(0)) for name in names]))) == 10
    left.close()
    right.join(consumer(prefetch=15, queue=lane(0)))
    right.admit()
    assert [message.message_id for message in take(right)] == names
    right.close()


async def test_messages_of_an_owner_without_a_file_come_back_at_the_start(tmp_path: Path) -> None:
    first = Engine(tmp_path, Topology(()))
    first.run(Batch(posts=[post("a")]), NOW)
    first.close()
    store = Store(tmp_path / "queues.sqlite3")
    store.begin(durable=True)
    store.lease("q", 99, 10)
    store.commit()
    store.close()
    second = Engine(tmp_path, Topology(()))
    assert second.survey().depths == {"q": 1}
    second.close()
