"""What only the embedded broker does: full disks, unusable files, its clock, its bookkeeping."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog.testing

from shared import metrics
from shared.broker.embedded.broker import EmbeddedBroker
from shared.broker.embedded.consumer import EmbeddedConsumer
from shared.broker.embedded.records import Leased
from shared.broker.interface import Outgoing, ParkReason, Refused, Unavailable
from shared.broker.parking import QUEUE, REASON
from shared.broker.topology import PARKED
from shared.settings.load import ConfigError
from tests.conformance.harness import (
    LIMIT,
    OTHER,
    PATIENCE,
    STEP_MS,
    WORK,
    Inbox,
    publish,
    small_topology,
    until,
    until_depths,
)

LARGE = bytes(200_000)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[EmbeddedBroker]:
    opened = EmbeddedBroker(str(tmp_path), small_topology())
    await opened.start()
    yield opened
    await opened.close()


def connection(broker: EmbeddedBroker) -> sqlite3.Connection:
    assert broker._writer is not None
    return broker._writer._engine._store.connection


def allow_pages(broker: EmbeddedBroker, pages: int) -> None:
    """A disk of that many pages: SQLite answers like a full one."""
    connection(broker).execute(f"PRAGMA max_page_count = {pages}")


async def fill(broker: EmbeddedBroker) -> None:
    """Publish more than the disk has room for."""
    allow_pages(broker, 60)
    with pytest.raises(Refused):
        await broker.publish(Outgoing(OTHER, 2 * LARGE, "too large"))


async def until_usable(broker: EmbeddedBroker) -> None:
    await broker.wait_usable(PATIENCE)


async def test_a_full_disk_refuses_publishes_and_blocks_until_there_is_room(
    broker: EmbeddedBroker,
) -> None:
    refused = metrics.publish_failures.labels("refused")._value.get()
    await fill(broker)
    assert (broker.usable, broker.blocked) == (False, True)
    assert metrics.broker_usable._value.get() == 0
    with pytest.raises(Refused):
        await broker.publish(Outgoing(WORK, b"small", "at once"))
    assert metrics.publish_failures.labels("refused")._value.get() == refused + 2
    allow_pages(broker, 100_000)
    await until_usable(broker)
    assert not broker.blocked
    assert metrics.broker_usable._value.get() == 1
    await publish(broker, "a")


async def test_a_full_disk_leaves_nothing_of_the_batch_it_refused(broker: EmbeddedBroker) -> None:
    allow_pages(broker, 60)
    batch = [Outgoing(WORK, b"small", "a"), Outgoing(WORK, LARGE, "b"), Outgoing(WORK, LARGE, "c")]
    results = await asyncio.gather(*map(broker.publish, batch), return_exceptions=True)
    assert [type(result) for result in results] == [Refused] * 3
    await until_depths(broker, work=0)


async def test_a_forward_waits_for_room_and_settlements_go_on(broker: EmbeddedBroker) -> None:
    await publish(broker, "a", "b")
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    first, second = await inbox.take(2)
    await fill(broker)
    moved = first.forward([Outgoing(WORK, LARGE, "a1")])
    second.release()
    assert (await inbox.next()).message_id == "b"
    assert not moved.done()
    allow_pages(broker, 100_000)
    await asyncio.wait_for(moved, PATIENCE)
    assert (await inbox.next()).message_id == "a1"


async def test_a_forward_that_waits_for_room_ends_unavailable_at_the_close(tmp_path: Path) -> None:
    broker = EmbeddedBroker(str(tmp_path), small_topology())
    await broker.start()
    await publish(broker, "a")
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    delivery = await inbox.next()
    await fill(broker)
    moved = delivery.forward([Outgoing(WORK, LARGE, "a1")])
    await broker.close()
    with pytest.raises(Unavailable):
        await moved
    after = EmbeddedBroker(str(tmp_path), small_topology())
    await after.start()
    after.consume(WORK, 10, inbox)
    again = await inbox.next()
    assert (again.message_id, again.attempts) == ("a", 0)
    await after.close()


async def test_what_was_leased_for_a_consumer_that_just_stopped_goes_back(
    broker: EmbeddedBroker,
) -> None:
    inbox = Inbox()
    consumer = broker.consume(WORK, 10, inbox)
    assert isinstance(consumer, EmbeddedConsumer)
    await consumer.stop()
    consumer.subscription.deliver([Leased(1, 1, "a", {}, b"")])
    assert broker.batch.releases == [1]
    assert inbox.arrived.empty()


async def test_a_broken_connection_fails_publishes_as_unavailable_and_is_replaced(
    broker: EmbeddedBroker,
) -> None:
    await publish(broker, "a")
    connection(broker).close()
    with pytest.raises(Unavailable):
        await broker.publish(Outgoing(WORK, b"", "b"))
    await until_usable(broker)
    await publish(broker, "c")
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    assert [delivery.message_id for delivery in await inbox.take(2)] == ["a", "c"]


def _no_database(directory: Path) -> None:
    (directory / "queues.sqlite3").write_bytes(b"this is no database, by any measure" * 100)


def _newer_database(directory: Path) -> None:
    connection = sqlite3.connect(directory / "queues.sqlite3")
    connection.execute("PRAGMA user_version = 999")
    connection.close()


def _no_file(directory: Path) -> None:
    (directory / "queues.sqlite3").mkdir()


@pytest.mark.parametrize("spoil", [_no_database, _newer_database, _no_file])
async def test_a_store_that_cannot_be_used_is_an_error_of_the_configuration(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path)
    with pytest.raises(ConfigError, match=r"^broker\.url: .*" + tmp_path.name):
        await EmbeddedBroker(str(tmp_path), small_topology()).start()


async def test_a_missing_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    broker = EmbeddedBroker(str(tmp_path / "a" / "b"), small_topology())
    await broker.start()
    await publish(broker, "a")
    await broker.close()


async def test_a_directory_that_is_a_file_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^broker\.url: "):
        await EmbeddedBroker(str(tmp_path / "file" / "below"), small_topology()).start()


async def test_a_delay_follows_the_wall_clock(tmp_path: Path) -> None:
    now = [1_000_000.0]
    broker = EmbeddedBroker(str(tmp_path), small_topology(3_600_000), clock=lambda: now[0])
    await broker.start()
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    await broker.publish(Outgoing(WORK, b"", "a", delay_ms=3_600_000))
    now[0] += 3599.9
    await until_depths(broker, step_3600000ms=1)
    now[0] += 0.2
    assert (await inbox.next()).message_id == "a"
    await broker.close()


async def test_a_clock_set_back_does_not_hide_messages_that_were_ready(tmp_path: Path) -> None:
    now = [1_000_000.0]
    broker = EmbeddedBroker(str(tmp_path), small_topology(), clock=lambda: now[0])
    await broker.start()
    await publish(broker, "a")
    now[0] -= 86400
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    assert (await inbox.next()).message_id == "a"
    await broker.close()


async def test_a_delayed_message_of_another_broker_wakes_a_waiting_consumer(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    sender = EmbeddedBroker(str(tmp_path), small_topology())
    await sender.start()
    await sender.publish(Outgoing(WORK, b"", "a", delay_ms=STEP_MS))
    await sender.close()
    assert (await inbox.next()).message_id == "a"


async def test_a_message_that_failed_too_often_is_parked_with_the_reason(
    broker: EmbeddedBroker,
) -> None:
    parked_before = metrics.parked_messages.labels("delivery_limit")._value.get()
    await publish(broker, "a")
    inbox, parked = Inbox(), Inbox()
    broker.consume(WORK, 10, inbox)
    broker.consume(PARKED, 10, parked)
    with structlog.testing.capture_logs() as told:
        for _ in range(LIMIT + 1):
            (await inbox.next()).failed()
        found = await parked.next()
        await publish(broker, "b")  # its confirm comes after that of the parked message
    assert found.headers[REASON] == ParkReason.DELIVERY_LIMIT.value
    assert found.headers[QUEUE] == WORK
    assert metrics.parked_messages.labels("delivery_limit")._value.get() == parked_before + 1
    assert told == [
        {"job_id": "a", "event": "parked", "reason": "delivery_limit",
         "reply": f"failed {LIMIT + 1} times", "log_level": "info"}
    ]  # fmt: skip


async def test_what_a_closing_broker_gives_back_is_not_counted(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    await publish(broker, "a")
    inbox, again = Inbox(), Inbox()
    another = EmbeddedBroker(str(tmp_path), small_topology())
    await another.start()
    another.consume(WORK, 10, inbox)
    await inbox.next()
    await another.close()
    broker.consume(WORK, 10, again)
    assert (await again.next()).attempts == 0


async def test_an_undeclared_delay_in_a_forward_leaves_the_message_ours(
    broker: EmbeddedBroker,
) -> None:
    await publish(broker, "a")
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    delivery = await inbox.next()
    with pytest.raises(ValueError, match="delay"):
        delivery.forward([Outgoing(WORK, b"", "a", delay_ms=1)])
    await asyncio.wait_for(delivery.forward([Outgoing(OTHER, b"", "a")]), PATIENCE)


async def test_messages_of_a_queue_that_left_the_topology_are_counted_and_served(
    tmp_path: Path,
) -> None:
    before = EmbeddedBroker(str(tmp_path), small_topology())
    await before.start()
    await publish(before, "a", queue=OTHER)
    await before.close()
    topology = small_topology()
    smaller = type(topology)(tuple(q for q in topology.queues if q.name != OTHER))
    after = EmbeddedBroker(str(tmp_path), smaller)
    await after.start()
    assert (await after.depths())[OTHER] == 1
    inbox = Inbox()
    after.consume(OTHER, 10, inbox)
    assert (await inbox.next()).message_id == "a"
    await after.close()


async def test_consuming_and_publishing_may_begin_before_the_start(tmp_path: Path) -> None:
    broker = EmbeddedBroker(str(tmp_path), small_topology())
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    with pytest.raises(Unavailable):
        await broker.publish(Outgoing(WORK, b"", "too early"))
    await broker.start()
    await publish(broker, "a")
    assert (await inbox.next()).message_id == "a"
    await broker.close()


async def test_a_handlers_exception_is_logged_without_the_body(broker: EmbeddedBroker) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("broken")

    with structlog.testing.capture_logs() as lines:
        broker.consume(WORK, 10, broken)
        await broker.publish(Outgoing(WORK, b"secret", "a"))
        await until_depths(broker, work=0, postroad_parked=1)
    failures = [line for line in lines if line["event"] == "a handler failed"]
    assert len(failures) == LIMIT + 1
    assert failures[0]["message_id"] == "a"
    assert "secret" not in str(lines)


async def test_a_closed_broker_leaves_no_trace_of_its_life(tmp_path: Path) -> None:
    broker = EmbeddedBroker(str(tmp_path), small_topology())
    await broker.start()
    broker.consume(WORK, 10, Inbox())
    await publish(broker, "a")
    await broker.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "active",
        "doorbells",
        "owners",
        "queues.sqlite3",
        "writer.lock",
    ]
    assert list((tmp_path / "owners").iterdir()) == []
    assert list((tmp_path / "doorbells").iterdir()) == []


async def test_large_bodies_are_leased_a_few_at_a_time(broker: EmbeddedBroker) -> None:
    for name in ("a", "b", "c"):
        await broker.publish(Outgoing(WORK, bytes(3 << 20), name))
    inbox = Inbox(acknowledge=True)
    consumer = broker.consume(WORK, 100, inbox)
    assert [delivery.message_id for delivery in await inbox.take(3)] == ["a", "b", "c"]
    await consumer.stop()

    async def gone() -> bool:
        return (await broker.depths())[WORK] == 0

    await until(gone)
