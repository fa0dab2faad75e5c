from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from tests.bench.bare import connect_bare
from tests.bench.prefill import content
from tests.bench.world import World, black_hole, site_addresses
from tests.support.smtp_client import SmtpClient


@pytest.fixture
def world() -> Iterator[World]:
    with World(["127.0.0.1", "127.1.0.2"], 0.0) as running:
        yield running


def test_every_site_has_an_address_of_its_own() -> None:
    addresses = site_addresses(600)
    assert len(set(addresses)) == 600
    for address in addresses:
        socket.inet_aton(address)


async def test_the_world_tells_who_got_mail_and_when(world: World) -> None:
    before = time.monotonic()
    async with SmtpClient(world.port) as client:
        for recipients in (["a@x.example", "b@x.example"], ["a@x.example"]):
            assert (await client.send("s@x.example", recipients, b"body\r\n")).code == 250
    assert world.count() == 2
    report = world.report()
    assert {address: len(times) for address, times in report.times.items()} == {
        "a@x.example": 2,
        "b@x.example": 1,
    }
    assert all(before < at < time.monotonic() for at in report.times["a@x.example"])
    assert report.most == 1


async def test_a_command_in_the_content_is_no_command(world: World) -> None:
    async with SmtpClient(world.port) as client:
        body = b"MAIL FROM:<x@x>\r\nRCPT TO:<no@x.example>\r\n.\r\n..\r\n"
        await client.send("s@x.example", ["a@x.example"], body)
    assert list(world.report().times) == ["a@x.example"]


async def test_connections_count_by_address(world: World) -> None:
    async with SmtpClient(world.port), SmtpClient(world.port):
        other = await connect_bare("127.1.0.2", world.port, "x.example")
        await other.quit()
    assert world.report().most == 2


async def test_a_slow_world_answers_late_and_in_order() -> None:
    with World(["127.0.0.1"], 0.3) as slow:
        client = await connect_bare("127.0.0.1", slow.port, "x.example")
        started = time.monotonic()
        transaction = b"MAIL FROM:<s@x>\r\nRCPT TO:<%b@x>\r\nDATA\r\n"
        await client.exchange(transaction % b"a", 3)
        await client.exchange(b"body\r\n.\r\n" + transaction % b"b", 4)
        assert time.monotonic() - started >= 0.3
        assert slow.count() == 1
        await client.exchange(b"body\r\n.\r\n", 1)
        assert list(slow.report().times) == ["a@x", "b@x"]
        await client.quit()


async def test_the_floor_sends_what_it_is_given(world: World) -> None:
    client = await connect_bare("127.0.0.1", world.port, "x.example")
    for number in range(3):
        await client.send("s@x.example", f"user.{number}@x.example", content(4096))
    await client.quit()
    assert sorted(world.report().times) == [f"user.{number}@x.example" for number in range(3)]


async def test_the_floor_does_not_take_a_refusal_for_an_answer(world: World) -> None:
    client = await connect_bare("127.0.0.1", world.port, "x.example")
    await client.exchange(b"QUIT\r\n", 1)
    with pytest.raises(ConnectionError):
        await client.send("s@x.example", "a@x.example", b"")


async def test_a_black_hole_answers_nobody() -> None:
    with black_hole("127.3.0.1") as port, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await asyncio.open_connection("127.3.0.1", port)
