"""The queues in one SQLite file: every SQL statement of the embedded broker, on one connection.

It knows rows, not consumers or threads; the caller holds the writer lock around `begin` to
`commit`.

Statements take whole batches on purpose. sqlite3 gives up the interpreter lock at each step, and
beside a busy event loop each return costs up to a switch interval: row by row, a batch of twenty
took a hundred times longer than in a few large steps (measured).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from shared.broker.embedded import statements as sql
from shared.broker.embedded.records import Leased, Row

ROWS_A_STATEMENT = 64
BUSY_SECONDS = 5.0
"""Only foreign tools (a backup, a shell) are waited for; our processes share the writer lock."""

_PROBE_BYTES = 1 << 20

_Fact = tuple[int, int, int, tuple[str, dict[str, str]]]
_FACTS = msgspec.json.Decoder(list[_Fact])


def make_directory(directory: Path) -> None:
    """Create a directory and its parents so that a power cut does not take them away again.

    Raises OSError. The files below are SQLite's to sync, names included.
    """
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in missing:
        descriptor = os.open(folder.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class NewerSchemaError(sqlite3.DatabaseError):
    """The file was written by a newer postroad."""


class Store:
    """One connection to the file. Methods raise `sqlite3.Error`; then `rollback` is due."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queues: dict[str, int] = {}
        self._full = True
        self.connection = self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=4 * ROWS_A_STATEMENT,
        )
        try:
            self._prepare(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        for pragma in sql.SETUP:
            connection.execute(pragma).fetchall()
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > sql.SCHEMA_VERSION:
            raise NewerSchemaError(
                f"the file was written by a newer postroad (schema {version}, this one reads up to "
                f"{sql.SCHEMA_VERSION}): use that version, or newer"
            )
        connection.executescript(sql.SCHEMA)
        connection.executescript(sql.ARRIVAL)
        connection.execute(f"PRAGMA user_version = {sql.SCHEMA_VERSION}")
        self._full = True
        self._queues = dict(connection.execute("SELECT name, id FROM queue").fetchall())

    def reopen(self) -> None:
        """A fresh connection, after an error that the old one may not outlive."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()
        self.connection = self._connect()

    def close(self) -> None:
        """Close; the last connection of all also empties the write-ahead log."""
        self.connection.close()

    def begin(self, *, durable: bool) -> None:
        """Open a transaction; `durable` makes its commit wait for the disk.

        Without, a power cut may undo it (never a kill): good enough for leases, which die with
        their owner anyway, and for acknowledgements, where it costs one duplicate.
        """
        self._sync(durable)
        self.connection.execute("BEGIN IMMEDIATE")

    def _sync(self, durable: bool) -> None:
        if durable is not self._full:
            self.connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._full = durable

    def commit(self) -> None:
        """The confirm of everything since `begin`."""
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo everything since `begin`; also after SQLite did it by itself."""
        # A queue named first in this transaction is unknown again.
        self._queues.clear()
        with contextlib.suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def insert(self, rows: Sequence[Row]) -> None:
        """Append messages, in order."""
        for start in range(0, len(rows), ROWS_A_STATEMENT):
            self._insert(rows[start : start + ROWS_A_STATEMENT])

    def insert_alone(self, rows: Sequence[Row]) -> None:
        """Append at most `ROWS_A_STATEMENT` messages, in order, as a transaction of its own.

        It is committed, durably, when this returns: one step instead of four, since each gives up
        the interpreter lock several times.
        """
        self._sync(durable=True)
        values: list[object] = []
        for row in rows:
            step = None if row.step is None else self._queue_id(row.step)
            values += (self._queue_id(row.queue), step, row.visible_at, row.meta, row.body)
        self.connection.execute(sql.insert_arrivals(len(rows)), values)

    def _insert(self, rows: Sequence[Row]) -> None:
        small: list[object] = []
        for row in rows:
            step = None if row.step is None else self._queue_id(row.step)
            small += (self._queue_id(row.queue), step, row.visible_at)
        last = self.connection.execute(sql.insert_messages(len(rows)), small).lastrowid or 0
        large: list[object] = []
        for number, row in enumerate(rows, last - len(rows) + 1):
            large += (number, row.meta, row.body)
        self.connection.execute(sql.insert_bodies(len(rows)), large)

    def lease(self, queue: str, owner: int, limit: int) -> list[Leased]:
        """Hand the oldest `limit` ready messages of a queue to `owner` and count the delivery."""
        number = self._queue_id(queue)
        facts, bodies, last = self.connection.execute(sql.PEEK, (number, limit)).fetchone()
        if last is None:
            return []
        self.connection.execute(sql.TAKE, (owner, number, last))
        return _slice(_FACTS.decode(facts), bodies or b"")

    def delete(self, owner: int, ids: Sequence[int]) -> None:
        """Remove messages that `owner` holds."""
        if ids:
            self.connection.execute(sql.DELETE, (owner, str(ids)))

    def give_back(self, owner: int, ids: Sequence[int], *, counted: bool) -> None:
        """Make messages that `owner` holds ready again; uncounted: as if never delivered."""
        if ids:
            off = 0 if counted else 1
            self.connection.execute(sql.GIVE_BACK, (off, owner, str(ids)))

    def move(self, owner: int, number: int, queue: str, meta: str) -> None:
        """Put a message that `owner` holds into another queue under new meta data."""
        self.connection.execute(sql.MOVE, (self._queue_id(queue), number, owner))
        self.connection.execute("UPDATE body SET meta = ? WHERE id = ?", (meta, number))

    def promote(self, now: float) -> set[str]:
        """Make delayed messages ready whose time has come; returns their queues."""
        due = self.connection.execute(sql.DUE_QUEUES, (now,)).fetchall()
        self.connection.execute(sql.PROMOTE, (now,))
        return {name for (name,) in due}

    def next_due(self) -> float | None:
        """When the next delayed message becomes ready (epoch seconds)."""
        row = self.connection.execute(
            "SELECT min(visible_at) FROM message WHERE visible_at IS NOT NULL"
        ).fetchone()
        return None if row[0] is None else float(row[0])

    def owners(self) -> set[int]:
        """Everyone who holds a message (reads the whole table of small rows)."""
        rows = self.connection.execute("SELECT DISTINCT owner FROM message WHERE owner IS NOT NULL")
        return {owner for (owner,) in rows.fetchall()}

    def held_by(self, owner: int) -> list[tuple[int, str, int, str]]:
        """Id, queue, deliveries and meta data of everything that `owner` holds."""
        return self.connection.execute(sql.HELD_BY, (owner,)).fetchall()

    def depths(self) -> dict[str, int]:
        """Messages that nobody holds, by queue; the delayed ones by their step."""
        return dict(self.connection.execute(sql.DEPTHS).fetchall())

    def ready_queues(self) -> frozenset[str]:
        """The queues that hold a message which may be leased."""
        return frozenset(name for (name,) in self.connection.execute(sql.READY_QUEUES).fetchall())

    def queues(self) -> frozenset[str]:
        """The names of all queues that ever held or served a message."""
        rows = self.connection.execute("SELECT name FROM queue").fetchall()
        return frozenset(name for (name,) in rows)

    def data_version(self) -> int:
        """A number that changes when another connection has committed."""
        return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def probe(self) -> None:
        """Store and remove something large, to learn whether the disk takes data again."""
        self.begin(durable=True)
        self.connection.execute("INSERT INTO body VALUES (-1, '', zeroblob(?))", (_PROBE_BYTES,))
        self.commit()
        self.begin(durable=False)
        self.connection.execute("DELETE FROM body WHERE id = -1")
        self.commit()

    def _queue_id(self, name: str) -> int:
        number = self._queues.get(name)
        if number is None:
            self.connection.execute("INSERT OR IGNORE INTO queue (name) VALUES (?)", (name,))
            row = self.connection.execute("SELECT id FROM queue WHERE name = ?", (name,)).fetchone()
            number = self._queues[name] = int(row[0])
        return number


def _slice(facts: Iterable[_Fact], bodies: bytes) -> list[Leased]:
    leased, start = [], 0
    for number, deliveries, length, (message_id, headers) in facts:
        body = bodies[start : start + length]
        leased.append(Leased(number, deliveries + 1, message_id, headers, body))
        start += length
    if start != len(bodies):
        raise sqlite3.DatabaseError("bodies and their lengths disagree")
    return leased
