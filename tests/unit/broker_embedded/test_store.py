"""The rows of the store: leases, counts, delays, and what a failed transaction leaves."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.broker.embedded.records import Leased, Row, decode_meta, encode_meta
from shared.broker.embedded.statements import SCHEMA_VERSION
from shared.broker.embedded.store import ROWS_A_STATEMENT, NewerSchemaError, Store

ME, ANOTHER = 7, 8


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "queues.sqlite3")
    yield opened
    opened.close()


def insert(store: Store, *names: str, queue: str = "q", at: float | None = None) -> None:
    step = None if at is None else "step"
    store.begin(durable=True)
    store.insert([Row(queue, encode_meta(name, {}), name.encode(), step, at) for name in names])
    store.commit()


def lease(store: Store, limit: int = 100, queue: str = "q", owner: int = ME) -> list[Leased]:
    store.begin(durable=False)
    leased = store.lease(queue, owner, limit)
    store.commit()
    return leased


def ids(leased: list[Leased]) -> list[str]:
    return [message.message_id for message in leased]


def test_messages_come_out_as_they_went_in_and_in_order(store: Store) -> None:
    names = [f"{number}" for number in range(2 * ROWS_A_STATEMENT + 3)]
    insert(store, *names)
    leased = lease(store, 1000)
    assert ids(leased) == names
    assert [message.body.decode() for message in leased] == names


def test_a_leased_message_is_not_leased_again(store: Store) -> None:
    insert(store, *"abc")
    assert ids(lease(store, 2)) == ["a", "b"]
    assert ids(lease(store, 2, owner=ANOTHER)) == ["c"]
    assert lease(store) == []


def test_a_queue_sees_only_its_own_messages(store: Store) -> None:
    insert(store, "a")
    insert(store, "b", queue="other")
    assert ids(lease(store, queue="other")) == ["b"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.dictionaries(
                st.text(st.characters(exclude_categories=["Cs"])),
                st.text(st.characters(exclude_categories=["Cs"])),
            ),
            st.binary(),
        )
    )
)
def test_any_ids_headers_and_bodies_survive_the_store(
    store: Store, messages: list[tuple[str, dict[str, str], bytes]]
) -> None:
    store.begin(durable=False)
    store.insert([Row("q", encode_meta(name, headers), body) for name, headers, body in messages])
    leased = store.lease("q", ME, 1000)
    store.rollback()
    assert [(m.message_id, m.headers, m.body) for m in leased] == messages


def test_only_the_holder_deletes_or_gives_back(store: Store) -> None:
    insert(store, "a")
    (message,) = lease(store)
    store.begin(durable=False)
    store.delete(ANOTHER, [message.id])
    store.give_back(ANOTHER, [message.id], counted=False)
    store.commit()
    assert [row[:3] for row in store.held_by(ME)] == [(message.id, "q", 1)]


def test_a_deleted_message_takes_its_body_along(store: Store) -> None:
    insert(store, "a", "b")
    leased = lease(store)
    store.begin(durable=False)
    store.delete(ME, [leased[0].id])
    store.commit()
    assert store.connection.execute("SELECT count(*) FROM body").fetchone() == (1,)


@pytest.mark.parametrize(("counted", "deliveries"), [(True, 2), (False, 1)])
def test_a_given_back_message_is_leased_again_with_its_count(
    store: Store, counted: bool, deliveries: int
) -> None:
    insert(store, "a")
    (message,) = lease(store)
    store.begin(durable=False)
    store.give_back(ME, [message.id], counted=counted)
    store.commit()
    assert [again.deliveries for again in lease(store)] == [deliveries]


def test_a_moved_message_has_new_meta_data_and_no_count(store: Store) -> None:
    insert(store, "a")
    (message,) = lease(store)
    store.begin(durable=True)
    store.move(ME, message.id, "parked", encode_meta("a", {"why": "so"}))
    store.commit()
    (moved,) = lease(store, queue="parked")
    assert (moved.message_id, moved.headers, moved.deliveries) == ("a", {"why": "so"}, 1)
    assert moved.body == b"a"


def test_a_delayed_message_is_ready_when_promoted_and_not_before(store: Store) -> None:
    insert(store, "late", at=200.0)
    insert(store, "early", at=100.0)
    assert store.next_due() == 100.0
    assert lease(store) == []
    store.begin(durable=False)
    assert store.promote(100.0) == {"q"}
    store.commit()
    assert ids(lease(store)) == ["early"]
    assert store.next_due() == 200.0


def test_depths_leave_out_what_is_held_and_name_the_step_of_the_delayed(store: Store) -> None:
    insert(store, *"abc")
    insert(store, "later", at=1e12)
    lease(store, 1)
    assert store.depths() == {"q": 2, "step": 1}


def test_the_queues_that_hold_a_ready_message_are_named(store: Store) -> None:
    assert store.ready_queues() == set()
    for queue in ("a", "b", "c", "held"):
        insert(store, *"12", queue=queue)
    insert(store, "later", queue="delayed", at=1e12)
    lease(store, 2, queue="held")
    assert store.ready_queues() == {"a", "b", "c"}
    assert store.queues() >= {"a", "b", "c", "held", "delayed"}


def test_a_rolled_back_transaction_leaves_nothing_not_even_a_queue(store: Store) -> None:
    store.begin(durable=True)
    store.insert([Row("new", encode_meta("a", {}), b"")])
    store.rollback()
    assert store.depths() == {}
    insert(store, "b", queue="new")
    assert store.depths() == {"new": 1}
    assert ids(lease(store, queue="new")) == ["b"]


def test_a_full_disk_undoes_the_whole_transaction(store: Store) -> None:
    insert(store, "a")
    store.connection.execute("PRAGMA max_page_count = 20")
    store.begin(durable=True)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.insert([Row("q", encode_meta("b", {}), bytes(4096)) for _ in range(50)])
    store.rollback()
    assert store.depths() == {"q": 1}
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.probe()
    store.rollback()
    store.connection.execute("PRAGMA max_page_count = 100000")
    store.probe()
    assert store.connection.execute("SELECT count(*) FROM body").fetchone() == (1,)


def test_messages_stored_alone_are_as_others(store: Store) -> None:
    insert(store, "a")
    rows = [Row("q", encode_meta(name, {"h": name}), name.encode()) for name in "bc"]
    store.insert_alone([*rows, Row("new", encode_meta("late", {}), b"", "step", 10.0)])
    insert(store, "d")
    assert store.next_due() == 10.0
    leased = lease(store)
    assert ids(leased) == ["a", "b", "c", "d"]
    assert [message.body for message in leased] == [b"a", b"b", b"c", b"d"]
    assert [message.headers for message in leased] == [{}, {"h": "b"}, {"h": "c"}, {}]
    assert store.depths() == {"step": 1}


def test_messages_stored_alone_are_so_whole_or_not_at_all(store: Store) -> None:
    insert(store, "a")
    store.connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.insert_alone([Row("q", encode_meta("b", {}), bytes(4096)) for _ in range(50)])
    assert not store.connection.in_transaction
    assert store.depths() == {"q": 1}
    assert store.connection.execute("SELECT count(*) FROM body").fetchone() == (1,)


def test_messages_stored_alone_wait_for_the_disk(store: Store) -> None:
    store.begin(durable=False)
    store.commit()
    store.insert_alone([Row("q", encode_meta("a", {}), b"")])
    assert store.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert not store.connection.in_transaction


def test_durable_transactions_sync_and_others_do_not(store: Store) -> None:
    levels = []
    for durable in (True, False, True):
        store.begin(durable=durable)
        levels.append(store.connection.execute("PRAGMA synchronous").fetchone()[0])
        store.commit()
    full, normal = 2, 1
    assert levels == [full, normal, full]


def test_a_durable_transaction_after_a_reopen_syncs(store: Store) -> None:
    store.begin(durable=False)
    store.commit()
    store.reopen()
    store.begin(durable=True)
    assert store.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    store.commit()


def test_the_file_is_in_write_ahead_mode_and_reuses_freed_pages_as_they_are(store: Store) -> None:
    assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store.connection.execute("PRAGMA secure_delete").fetchone() == (0,)


def test_only_foreign_commits_change_the_data_version(store: Store, tmp_path: Path) -> None:
    before = store.data_version()
    insert(store, "a")
    assert store.data_version() == before
    another = Store(tmp_path / "queues.sqlite3")
    insert(another, "b")
    another.close()
    assert store.data_version() != before


def test_a_file_of_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "queues.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(NewerSchemaError, match="newer postroad"):
        Store(path)


def test_meta_data_survive_their_encoding() -> None:
    assert decode_meta(encode_meta("id", {"a": "ü\n"})) == ("id", {"a": "ü\n"})
