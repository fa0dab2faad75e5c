"""In which order a connection looks whether somebody is alone, and attends."""

from __future__ import annotations

from typing import Any

import pytest
from amqp.exceptions import NotFound, ResourceLocked

from shared.broker.amqp.attendance import ATTENDANCE, MIGRATION, MigratingError, attend


class Server:
    """A connection whose broker begins to be somebody's own at the nth look."""

    def __init__(self, locked_from: int) -> None:
        self._locked_from = locked_from
        self.looks = 0
        self.done: list[str] = []

    def channel(self) -> Server:
        return self

    def close(self) -> None:
        pass

    def queue_declare(self, name: str, *, passive: bool = False, **_: Any) -> None:
        if not passive:
            assert name == ATTENDANCE
            return
        assert name == MIGRATION
        self.looks += 1
        self.done.append("look")
        raise ResourceLocked("") if self.looks >= self._locked_from else NotFound("")

    def basic_consume(self, name: str, **_: Any) -> None:
        assert name == ATTENDANCE
        self.done.append("attend")


def test_who_comes_while_somebody_is_alone_is_never_counted() -> None:
    server = Server(locked_from=1)
    with pytest.raises(MigratingError):
        attend(server)
    assert server.done == ["look"]


def test_who_was_counted_too_late_sees_it_when_he_looks_again() -> None:
    server = Server(locked_from=2)
    with pytest.raises(MigratingError):
        attend(server)
    assert server.done == ["look", "attend", "look"]


def test_who_comes_otherwise_attends() -> None:
    server = Server(locked_from=3)
    attend(server)
    assert server.done == ["look", "attend", "look"]
