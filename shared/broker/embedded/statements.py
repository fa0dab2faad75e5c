"""The schema and the larger SQL statements of the embedded broker's store, as text.

A message is a small row and its body another, so that a lease, which changes the small one, never
rewrites a body.
"""

from __future__ import annotations

from functools import cache

SCHEMA_VERSION = 1

SETUP = (
    # 4.5 KB bodies cost least with 4 KiB pages: one overflow page each, written once and, when
    # freed, not written again (measured against 8, 16 and 32 KiB).
    "PRAGMA page_size = 4096",
    "PRAGMA auto_vacuum = NONE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = OFF",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -32768",
    "PRAGMA wal_autocheckpoint = 8000",  # 32 MB: a checkpoint is what a mail waits for most
    "PRAGMA journal_size_limit = 67108864",
)
SCHEMA = """
CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    step INTEGER,
    visible_at REAL,
    owner INTEGER,
    deliveries INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS body (id INTEGER PRIMARY KEY, meta TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS ready ON message (queue) WHERE owner IS NULL AND visible_at IS NULL;
CREATE INDEX IF NOT EXISTS delayed ON message (visible_at) WHERE visible_at IS NOT NULL;
CREATE TRIGGER IF NOT EXISTS message_gone AFTER DELETE ON message
BEGIN DELETE FROM body WHERE id = OLD.id; END;
"""

# Both rows of a message in one step, and without BEGIN and COMMIT: see `Store.insert_alone`.
ARRIVAL = """
CREATE TEMP VIEW arrival AS
SELECT NULL AS queue, NULL AS step, NULL AS visible_at, NULL AS meta, NULL AS body;
CREATE TEMP TRIGGER arrive INSTEAD OF INSERT ON arrival BEGIN
    INSERT INTO message (queue, step, visible_at) VALUES (NEW.queue, NEW.step, NEW.visible_at);
    INSERT INTO body (id, meta, body) VALUES (last_insert_rowid(), NEW.meta, NEW.body);
END;
"""

# One row for the whole lease: the facts as JSON text, the bodies end to end.
PEEK = """
SELECT '[' || group_concat(facts) || ']', CAST(group_concat(body, '') AS BLOB), max(id)
FROM (SELECT m.id AS id, b.body AS body,
    '[' || m.id || ',' || m.deliveries || ',' || length(b.body) || ',' || b.meta || ']' AS facts
    FROM message AS m INDEXED BY ready CROSS JOIN body AS b ON b.id = m.id
    WHERE m.queue = ? AND m.owner IS NULL AND m.visible_at IS NULL ORDER BY m.id LIMIT ?)
"""
TAKE = """
UPDATE message INDEXED BY ready SET owner = ?, deliveries = deliveries + 1
WHERE queue = ? AND owner IS NULL AND visible_at IS NULL AND id <= ?
"""
DELETE = "DELETE FROM message WHERE owner = ? AND id IN (SELECT value FROM json_each(?))"
GIVE_BACK = """
UPDATE message SET owner = NULL, deliveries = deliveries - ?
WHERE owner = ? AND id IN (SELECT value FROM json_each(?))
"""
MOVE = "UPDATE message SET queue = ?, owner = NULL, deliveries = 0 WHERE id = ? AND owner = ?"
DUE_QUEUES = """
SELECT DISTINCT q.name FROM message AS m INDEXED BY delayed
JOIN queue AS q ON q.id = m.queue WHERE m.visible_at <= ?
"""
# One step of the index for each queue, however many messages they hold.
READY_QUEUES = """
WITH RECURSIVE ready_queue (id) AS (
    SELECT min(queue) FROM message INDEXED BY ready WHERE owner IS NULL AND visible_at IS NULL
    UNION ALL
    SELECT (SELECT min(queue) FROM message INDEXED BY ready
        WHERE owner IS NULL AND visible_at IS NULL AND queue > ready_queue.id)
    FROM ready_queue WHERE ready_queue.id IS NOT NULL
) SELECT q.name FROM ready_queue JOIN queue AS q ON q.id = ready_queue.id
"""
PROMOTE = "UPDATE message SET step = NULL, visible_at = NULL WHERE visible_at <= ?"
HELD_BY = """
SELECT m.id, q.name, m.deliveries, b.meta FROM message AS m
JOIN queue AS q ON q.id = m.queue JOIN body AS b ON b.id = m.id WHERE m.owner = ?
"""
DEPTHS = """
SELECT q.name, c.n FROM (SELECT coalesce(step, queue) AS queue, count(*) AS n
    FROM message WHERE owner IS NULL GROUP BY 1) AS c JOIN queue AS q ON q.id = c.queue
"""


@cache
def insert_messages(rows: int) -> str:
    """Insert that many rows of queue, step and visible_at."""
    return " ".join(("INSERT INTO message (queue, step, visible_at) VALUES", _places(rows)))


@cache
def insert_bodies(rows: int) -> str:
    """Insert that many rows of id, meta and body."""
    return " ".join(("INSERT INTO body (id, meta, body) VALUES", _places(rows)))


@cache
def insert_arrivals(rows: int) -> str:
    """Insert that many rows of queue, step, visible_at, meta and body."""
    columns = "(queue, step, visible_at, meta, body)"
    return " ".join(("INSERT INTO arrival", columns, "VALUES", _places(rows, "(?, ?, ?, ?, ?)")))


def _places(rows: int, row: str = "(?, ?, ?)") -> str:
    return ", ".join([row] * rows)
