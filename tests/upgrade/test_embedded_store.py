"""The file of the embedded broker: an older one is read, a newer one is refused with a reason."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from shared.broker.embedded.broker import EmbeddedBroker
from shared.broker.embedded.statements import SCHEMA, SCHEMA_VERSION
from shared.broker.interface import Delivery
from shared.broker.topology import ACCEPTED, DUE, build_topology
from shared.settings.load import ConfigError

GOLDEN = Path(__file__).parent / "golden"
PATIENCE = 20.0
LONG_AFTER = 4e9
"""Seconds since the epoch: the delay of what was recorded is over."""
KNOWN = {1: "f63e"}
"""The beginning of the digest of each version's schema: what has changed needs a new version."""


def store_of(folder: Path, script: str) -> None:
    connection = sqlite3.connect(folder / "queues.sqlite3")
    connection.executescript(script)
    connection.close()


async def test_a_store_of_the_first_version_is_served_with_all_that_waits_in_it(
    tmp_path: Path,
) -> None:
    store_of(tmp_path, (GOLDEN / "1-first.sql").read_text(encoding="utf-8"))
    bodies = json.loads((GOLDEN / "1-first.json").read_text())["messages"]
    topology = build_topology([60_000], {"default": 2})
    broker = EmbeddedBroker(str(tmp_path), topology, clock=lambda: LONG_AFTER)
    await broker.start()
    await broker.wait_usable(PATIENCE)
    former = await broker.left_over()
    arrived: asyncio.Queue[Delivery] = asyncio.Queue()
    for queue in (ACCEPTED, DUE, *former):
        broker.consume(queue, 10, arrived.put_nowait)
    found = {}
    for _ in range(4):
        delivery = await asyncio.wait_for(arrived.get(), PATIENCE)
        found[delivery.message_id] = (delivery.queue, delivery.body.hex(), dict(delivery.headers))
        delivery.ack()
    await broker.close()

    assert former == ["postroad.lane.default.transactional"]
    assert found == {
        "mail": (ACCEPTED, bodies["mail"], {}),
        "mail_stored": (ACCEPTED, bodies["mail_stored"], {"x-note": "ü"}),
        "job": ("postroad.lane.default.transactional", bodies["job"], {}),
        "job_again": (DUE, bodies["job_again"], {}),
    }


async def test_a_newer_store_is_refused_with_both_versions_and_left_as_it_is(
    tmp_path: Path,
) -> None:
    store_of(tmp_path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}; CREATE TABLE newer (a)")
    broker = EmbeddedBroker(str(tmp_path), build_topology([60_000]))
    with pytest.raises(ConfigError) as refused:
        await broker.start()
    assert str(refused.value) == (
        f"broker.url: {tmp_path}: the file was written by a newer postroad (schema "
        f"{SCHEMA_VERSION + 1}, this one reads up to {SCHEMA_VERSION}): use that version, or newer"
    )
    left = sqlite3.connect(tmp_path / "queues.sqlite3")
    tables = left.execute("SELECT name FROM sqlite_master").fetchall()
    version = left.execute("PRAGMA user_version").fetchone()
    left.close()
    assert (tables, version) == ([("newer",)], (SCHEMA_VERSION + 1,))


def test_a_changed_schema_has_a_new_version() -> None:
    digest = hashlib.sha256(SCHEMA.encode()).hexdigest()
    assert digest[:4] == KNOWN[SCHEMA_VERSION]
