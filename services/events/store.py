"""Events that are kept, in bounds, in one SQLite file: what became of a mail can be asked later.

One process writes (`services.events.keeping`); readers open the file for reading only. An event is
kept as the line that was told. A power cut may take the last second, a crash nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from services.events.errors import StoreError
from shared.events.codec import EventError, decode_event
from shared.events.model import KINDS, MailEvent

SCHEMA_VERSION = 1
TRIM_EVERY = 1000
"""Events after which it is looked whether there are too many."""
BUSY_SECONDS = 5.0

_SETUP = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS event (
  id INTEGER PRIMARY KEY, mail_id TEXT NOT NULL, at REAL NOT NULL, line BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS event_of_mail ON event (mail_id);
PRAGMA user_version = {SCHEMA_VERSION};
"""
_ORDER = {kind: number for number, kind in enumerate(KINDS)}


class EventStore:
    """The one writer. `max_age` in seconds; `clock` gives epoch seconds.

    Methods raise `StoreError`.
    """

    def __init__(
        self, path: Path, max_events: int, max_age: float, clock: Callable[[], float]
    ) -> None:
        self._path = path
        self._max_events = max_events
        self._max_age = max_age
        self._clock = clock
        self._added = 0
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = _connect(path, f"{path.resolve().as_uri()}?mode=rwc")
            self._connection.executescript(_SETUP)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: {error}") from error
        self.trim()

    def add(self, lines: Sequence[bytes]) -> None:
        """Keep events, in one transaction; what is no event that we read is left out."""
        rows = [(event.mail_id, event.at, line) for line in lines for event in _read(line)]
        try:
            with self._connection:
                self._connection.executemany(
                    "INSERT INTO event (mail_id, at, line) VALUES (?, ?, ?)", rows
                )
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error
        self._added += len(rows)
        if self._added >= TRIM_EVERY:
            self.trim()

    def trim(self) -> None:
        """Let go of what is too old, and of the oldest where there are too many."""
        self._added = 0
        oldest = self._clock() - self._max_age
        try:
            with self._connection:
                self._connection.execute(
                    "DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?",
                    (self._max_events,),
                )
                # They were added in the order of time, nearly: the scan ends at the first to stay.
                self._connection.execute(
                    "DELETE FROM event WHERE id < coalesce("
                    "(SELECT id FROM event WHERE at >= ? ORDER BY id LIMIT 1),"
                    " (SELECT max(id) + 1 FROM event))",
                    (oldest,),
                )
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class StoredEvents:
    """A reader. Methods raise `StoreError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = _connect(path, f"{path.resolve().as_uri()}?mode=ro")
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def story(self, mail_id: str) -> list[MailEvent]:
        """All that is known of a mail, in the order in which it happened, each once."""
        rows = self._lines("SELECT line FROM event WHERE mail_id = ? ORDER BY id", mail_id)
        once = {event.id: event for line in reversed(rows) for event in _read(line)}
        return sorted(once.values(), key=order)

    def latest(self, count: int) -> list[MailEvent]:
        """The last `count` events of all mails, the oldest first."""
        rows = self._lines("SELECT line FROM event ORDER BY id DESC LIMIT ?", count)
        return sorted((event for line in reversed(rows) for event in _read(line)), key=order)

    def _lines(self, statement: str, value: object) -> list[bytes]:
        try:
            return [line for (line,) in self._connection.execute(statement, (value,)).fetchall()]
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error


def order(event: MailEvent) -> tuple[float, int]:
    """By time, and at one time as a mail meets them."""
    return event.at, _ORDER.get(event.event, len(_ORDER))


def _connect(path: Path, uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, timeout=BUSY_SECONDS, uri=True)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error:
        connection.close()
        raise
    if version > SCHEMA_VERSION:
        connection.close()
        raise StoreError(f"{path}: written by a newer postroad")
    return connection


def _read(line: bytes) -> list[MailEvent]:
    try:
        return [decode_event(line)]
    except EventError:
        return []
