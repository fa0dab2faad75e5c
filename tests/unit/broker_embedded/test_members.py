"""Announcements over datagram sockets: dead listeners, full ones, deep directories."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.broker.embedded.members import LONGEST_BYTES, Members


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ("long" * 40) / "members"  # longer than the address of a socket may be


@pytest.fixture
async def members(folder: Path) -> AsyncIterator[Members]:
    opened = Members(folder)
    yield opened
    opened.close()


async def test_the_socket_of_a_dead_process_is_removed_and_the_others_are_told(
    folder: Path, tmp_path: Path, members: Members
) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    members.listen(heard.put_nowait)
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(tmp_path / "dead"))
    dead.close()
    (tmp_path / "dead").rename(folder / "dead.sock")
    members.announce(b"a")
    assert await asyncio.wait_for(heard.get(), 5) == b"a"
    assert "dead.sock" not in {path.name for path in folder.iterdir()}


async def test_a_listener_that_is_slow_misses_some_and_holds_up_nobody(
    folder: Path, members: Members
) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    another = Members(folder)
    another.listen(heard.put_nowait)
    for _ in range(10_000):  # more than the kernel keeps
        members.announce(bytes(100))
    assert await asyncio.wait_for(heard.get(), 5) == bytes(100)
    another.close()
    assert heard.qsize() < 10_000


async def test_an_announcement_that_no_socket_takes_is_an_error(members: Members) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    members.listen(heard.put_nowait)
    with pytest.raises(ValueError, match="too long"):
        members.announce(bytes(LONGEST_BYTES + 1))
    members.announce(bytes(LONGEST_BYTES))
    assert await asyncio.wait_for(heard.get(), 5) == bytes(LONGEST_BYTES)


async def test_nothing_is_left_of_those_who_left(folder: Path, members: Members) -> None:
    another = Members(folder)
    listener = another.listen(lambda _: None)
    members.announce(b"a")
    assert len(list(folder.iterdir())) == 1
    await listener.stop()
    assert list(folder.iterdir()) == []
    another.close()
    members.announce(b"b")
