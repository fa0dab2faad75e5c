"""Bells between owners: who is woken, and what a missing or full pipe does (nothing)."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.broker.embedded.doorbells import Doorbells


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Doorbells]:
    bells = Doorbells(tmp_path, 1)
    yield bells
    bells.close()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Doorbells]:
    bells = Doorbells(tmp_path, 2)
    yield bells
    bells.close()


def rings(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def test_a_ring_wakes_the_other_owner_of_that_queue_only(here: Doorbells, there: Doorbells) -> None:
    own, wanted, unwanted = here.listen("a.b"), there.listen("a.b"), there.listen("b")
    here.refresh()
    here.ring({"a.b"})
    assert (rings(own), rings(wanted), rings(unwanted)) == (False, True, False)
    assert there.answer(wanted) == "a.b"
    assert not rings(wanted)


def test_queue_names_may_contain_any_character(here: Doorbells, there: Doorbells) -> None:
    descriptor = there.listen("../odd/ name")
    here.refresh()
    here.ring({"../odd/ name"})
    assert rings(descriptor)


def test_a_full_pipe_does_not_hold_up_the_ringer(here: Doorbells, there: Doorbells) -> None:
    descriptor = there.listen("q")
    here.refresh()
    os.write(descriptor, bytes(65536))
    here.ring({"q"})
    assert rings(descriptor)


def test_a_queue_that_nobody_consumes_any_more_has_no_bell(
    tmp_path: Path, here: Doorbells, there: Doorbells
) -> None:
    there.listen("q")
    kept = there.listen("other")
    here.refresh()
    here.ring({"q", "other"})
    there.hush("q")
    there.hush("q")
    here.ring({"q"})
    assert not there.listens("q")
    assert [path.name for path in tmp_path.iterdir()] == [f"{2:016x}.other"]
    assert (rings(kept), there.answer(kept)) == (True, "other")
    again = there.listen("q")
    here.refresh()
    here.ring({"q"})
    assert rings(again)


def test_only_bells_that_are_rung_take_a_descriptor(here: Doorbells, there: Doorbells) -> None:
    for number in range(50):
        there.listen(f"q{number}")
    before = len(list(Path("/proc/self/fd").iterdir()))
    here.refresh()
    here.ring({"q1", "q2"})
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 2


def test_an_owner_that_left_is_forgotten(tmp_path: Path, here: Doorbells) -> None:
    there = Doorbells(tmp_path, 2)
    there.listen("q")
    here.refresh()
    there.close()
    here.ring({"q"})
    here.refresh()
    assert list(tmp_path.iterdir()) == []


def test_the_pipe_of_a_dead_owner_is_not_rung_and_can_be_buried(
    tmp_path: Path, here: Doorbells
) -> None:
    os.mkfifo(tmp_path / f"{9:016x}.q")
    here.refresh()
    here.ring({"q"})
    here.bury(9)
    assert list(tmp_path.iterdir()) == []
