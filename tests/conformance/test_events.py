"""What is told of the mail: heard by those who follow, and waited for by nobody."""

from __future__ import annotations

import asyncio

import pytest

from shared.broker.interface import LONGEST_BODY, EventLine
from shared.events.codec import pattern, routing_key
from tests.conformance.harness import PATIENCE, Harness, until
from tests.conformance.test_members import Ear

A = routing_key("delivered", "shop", "bulk", "google")
B = routing_key("bounced", "shop.with*dots", "bulk", "other")


async def until_heard(line: EventLine) -> None:
    async def hears() -> bool:
        return line.hearing

    await until(hears)


async def until_followed(line: EventLine, *, followed: bool = True) -> None:
    async def agrees() -> bool:
        return line.followed is followed

    await until(agrees)


async def scatter(line: EventLine, *told: tuple[str, bytes]) -> None:
    async def taken() -> bool:
        return line.scatter(told)

    await until(taken)


async def test_what_is_told_reaches_all_who_follow_in_order(harness: Harness) -> None:
    lines = [(await harness.open()).events for _ in range(3)]
    ears = [Ear() for _ in lines]
    for line, ear in zip(lines, ears, strict=True):
        line.follow(["#"], ear)
        await until_heard(line)
    await scatter(lines[0], (A, b"1"), (B, b"2"))
    await scatter(lines[0], (A, b"3\n4"))
    for ear in ears:
        assert [await ear.next() for _ in range(3)] == [b"1", b"2", b"3\n4"]
        assert ear.silent


@pytest.mark.parametrize(
    ("patterns", "heard"),
    [
        (["#"], [b"a", b"b"]),
        ([pattern("delivered")], [b"a"]),
        ([pattern(tenant="shop.with*dots")], [b"b"]),
        ([pattern("delivered"), pattern("bounced", "shop.with*dots")], [b"a", b"b"]),
        ([pattern("bounced", "shop")], []),
        (["*.*.*.google"], [b"a"]),
    ],
)
async def test_a_follower_hears_what_its_patterns_name(
    harness: Harness, patterns: list[str], heard: list[bytes]
) -> None:
    line, other = (await harness.open()).events, (await harness.open()).events
    ear, end = Ear(), Ear()
    line.follow([*patterns, "end"], ear)
    other.follow(["end"], end)
    await until_heard(line)
    await until_heard(other)
    await scatter(other, (A, b"a"), (B, b"b"), ("end", b""))
    await end.next()
    assert [await ear.next() for _ in heard] == heard
    assert await ear.next() == b""


async def test_a_line_knows_that_somebody_follows_and_that_nobody_does(harness: Harness) -> None:
    line = (await harness.open()).events
    assert not line.followed
    follower = await harness.open()
    follower.events.follow(["#"], Ear())
    await until_followed(line)
    await follower.close()
    await until_followed(line, followed=False)


async def test_a_follower_that_stopped_hears_no_more(harness: Harness) -> None:
    line, ear, other = (await harness.open()).events, Ear(), Ear()
    listener = line.follow(["#"], ear)
    line.follow(["#"], other)
    await until_heard(line)
    await listener.stop()
    await listener.stop()
    await scatter(line, (A, b"a"))
    assert await other.next() == b"a"
    assert ear.silent


async def test_a_follower_that_fails_hears_on(harness: Harness) -> None:
    line, heard = (await harness.open()).events, asyncio.Queue[bytes]()

    def broken(body: bytes) -> None:
        heard.put_nowait(body)
        raise RuntimeError("broken")

    line.follow(["#"], broken)
    await until_heard(line)
    for body in (b"a", b"b"):
        await scatter(line, (A, body))
        assert await asyncio.wait_for(heard.get(), PATIENCE) == body


async def test_large_bodies_arrive_octet_for_octet(harness: Harness) -> None:
    line, ear = (await harness.open()).events, Ear()
    line.follow(["#"], ear)
    await until_heard(line)
    bodies = [bytes([number]) * LONGEST_BODY for number in range(8)]
    for body in bodies:
        await scatter(line, (A, body))
        assert await ear.next() == body


async def test_a_closed_line_tells_nothing(harness: Harness) -> None:
    broker = await harness.open()
    broker.events.follow(["#"], Ear())
    await until_heard(broker.events)
    await broker.close()
    assert not broker.events.scatter([(A, b"a")])
    assert not broker.events.hearing
