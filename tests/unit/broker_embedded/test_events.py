"""What is told with the embedded broker, where nobody waits for a follower."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared import metrics
from shared.broker.embedded.events import SocketEvents
from shared.broker.interface import LONGEST_BODY


def missed() -> float:
    return metrics.dropped_events.labels("follower").value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "events"


async def test_nothing_is_made_where_nobody_follows(folder: Path) -> None:
    events = SocketEvents(folder)
    assert not events.followed
    assert not folder.exists()
    await events.close()


async def test_who_is_too_slow_misses_what_does_not_fit_and_that_is_counted(folder: Path) -> None:
    teller, follower, before = SocketEvents(folder), SocketEvents(folder), missed()
    heard: list[bytes] = []
    follower.follow(["#"], heard.append)
    told = 0
    while missed() == before and told < 10_000:
        # The loop has no turn meanwhile, so nobody reads.
        assert teller.scatter([("a.b.c.d", b"%d\n" % told + b"x" * 30_000)])
        told += 1
    assert missed() - before == 2, "two events, one a line"
    follower._sockets._receive()
    assert len(heard) == told - 1
    assert heard[0].startswith(b"0\n")
    await follower.close()
    await teller.close()


async def test_a_follower_that_died_is_forgotten(folder: Path) -> None:
    teller, follower = SocketEvents(folder), SocketEvents(folder)
    follower.follow(["#"], lambda _: None)
    follower._sockets._receiver.close()  # type: ignore[union-attr]
    assert teller.followed
    assert teller.scatter([("a", b"x")])
    assert list(folder.iterdir()) == []
    assert not teller.followed
    await teller.close()


async def test_what_is_too_much_for_one_datagram_goes_in_several(folder: Path) -> None:
    events = SocketEvents(folder)
    heard: list[bytes] = []
    events.follow(["a"], heard.append)
    bodies = [bytes([number]) * LONGEST_BODY for number in range(3)]
    events.scatter([("a", body) for body in bodies[:2]])
    events._sockets._receive()
    events.scatter([("b", b"no"), ("a", bodies[2])])
    events._sockets._receive()
    assert heard == bodies
    await events.close()
