"""Events that are kept: bounded, each once, in order, whatever comes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from services.events import store as module
from services.events.errors import StoreError
from services.events.store import EventStore, StoredEvents
from shared.events.codec import encode_event
from shared.events.model import MailEvent
from tests.unit.events.test_codec import EVENT


class Clock:
    now = 10_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "events.sqlite3"


@pytest.fixture
def store(path: Path, clock: Clock) -> Iterator[EventStore]:
    opened = EventStore(path, 1000, 600.0, clock)
    yield opened
    opened.close()


def of(mail_id: str, event: str, at: float, number: int = 0) -> MailEvent:
    name = f"{mail_id}.{event}.{number}"
    return replace(EVENT, mail_id=mail_id, event=event, at=at, id=name)


def lines(*events: MailEvent) -> list[bytes]:
    return [encode_event(event) for event in events]


def test_a_story_is_in_the_order_of_time_and_has_each_event_once(
    store: EventStore, path: Path
) -> None:
    story = [of("A", "accepted", 9_900), of("A", "routed", 9_901), of("A", "delivered", 9_902)]
    at_once = [of("A", "attempted", 9_902), *story[2:]]
    store.add(lines(story[1], of("B", "accepted", 9_950)))
    store.add(lines(story[2], at_once[0], story[0], story[1]))
    with StoredEvents(path) as stored:
        assert stored.story("A") == [*story[:2], *at_once]
        assert stored.story("C") == []
        assert [event.mail_id for event in stored.latest(3)] == ["A", "A", "A"]
        assert [event.mail_id for event in stored.latest(9)] == ["A"] * 5 + ["B"]


def test_what_is_no_event_is_left_out(store: EventStore, path: Path) -> None:
    newer = encode_event(replace(EVENT, schema=99))
    store.add([b"{}", b"\xff", newer, *lines(of("A", "accepted", 9_900))])
    with StoredEvents(path) as stored:
        assert len(stored.latest(10)) == 1


def test_there_are_never_many_more_than_the_most(store: EventStore, path: Path) -> None:
    for start in range(0, 3000, 500):
        store.add(lines(*(of(f"{start + n}", "accepted", 9_900) for n in range(500))))
        with StoredEvents(path) as stored:
            assert len(stored.latest(10_000)) <= 1000 + module.TRIM_EVERY
    store.trim()
    with StoredEvents(path) as stored:
        kept = stored.latest(10_000)
    assert [event.mail_id for event in kept] == [f"{number}" for number in range(2000, 3000)]


def test_what_is_too_old_goes_however_few_there_are(
    store: EventStore, path: Path, clock: Clock
) -> None:
    store.add(lines(*(of(f"{at}", "accepted", at) for at in (9_500, 9_600, 9_700, 9_800))))
    clock.now = 10_250
    store.trim()
    with StoredEvents(path) as stored:
        assert [event.mail_id for event in stored.latest(10)] == ["9700", "9800"]
    clock.now = 20_000
    store.trim()
    with StoredEvents(path) as stored:
        assert stored.latest(10) == []


def test_events_are_there_after_the_writer_was_gone(path: Path, clock: Clock) -> None:
    for number in range(2):
        store = EventStore(path, 1000, 600.0, clock)
        store.add(lines(of("A", "accepted", 9_900, number)))
        store.close()
    with StoredEvents(path) as stored:
        assert len(stored.story("A")) == 2


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, clock: Clock) -> None:
    text = tmp_path / "text"
    text.write_text("no database " * 100)
    newer = tmp_path / "newer"
    connection = sqlite3.connect(newer)
    connection.execute(f"PRAGMA user_version = {module.SCHEMA_VERSION + 1}")
    connection.close()
    for file in (text, newer, tmp_path / "missing"):
        with pytest.raises(StoreError, match=str(file)):
            StoredEvents(file).latest(1)
    for file in (text, newer, tmp_path):
        with pytest.raises(StoreError, match=str(file)):
            EventStore(file, 1000, 600.0, clock)


def test_a_reader_changes_nothing(store: EventStore, path: Path) -> None:
    store.add(lines(of("A", "accepted", 9_900)))
    with StoredEvents(path) as stored, pytest.raises(StoreError, match="readonly"):
        stored._lines("DELETE FROM event WHERE id = ?", 1)
