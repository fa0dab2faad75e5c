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
