"""Who counts as dead, and the lock that keeps writers apart."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from shared.broker.embedded.owners import Owners, WriterLock


def test_a_live_owner_is_not_dead_for_others_nor_for_itself(tmp_path: Path) -> None:
    first, second = Owners(tmp_path, 1), Owners(tmp_path, 2)
    assert (first.dead(), second.dead()) == ([], [])
    first.leave()
    second.leave()


def test_a_file_that_nobody_locks_is_a_dead_owner_until_it_is_buried(tmp_path: Path) -> None:
    owners = Owners(tmp_path, 1)
    (tmp_path / f"{5:016x}.lock").touch()
    assert owners.dead() == [5]
    owners.bury(5)
    assert owners.dead() == []
    owners.leave()


def test_an_owner_that_left_leaves_no_file(tmp_path: Path) -> None:
    Owners(tmp_path, 1).leave()
    assert list(tmp_path.iterdir()) == []


def test_a_stranger_has_no_file_at_all(tmp_path: Path) -> None:
    owners = Owners(tmp_path, 1)
    assert owners.strangers({1, 9}) == {9}
    owners.leave()


def test_an_id_in_use_is_refused(tmp_path: Path) -> None:
    owners = Owners(tmp_path, 1)
    with pytest.raises(FileExistsError):
        Owners(tmp_path, 1)
    owners.leave()


def test_one_writer_waits_for_the_other(tmp_path: Path) -> None:
    first, second = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock")
    order: list[str] = []

    def other_writer() -> None:
        with second:
            order.append("second")

    thread = threading.Thread(target=other_writer)
    with first:
        thread.start()
        order.append("first")
    thread.join(timeout=10)
    assert order == ["first", "second"]
    first.close()
    second.close()
