"""What processes that live tell each other: heard by all who listen, and promised to nobody."""

from __future__ import annotations

import asyncio

import pytest

from shared.broker.interface import Broker
from tests.conformance.harness import PATIENCE, Harness, until


class Ear:
    """Everything that one listener heard."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()

    def __call__(self, body: bytes) -> None:
        self._heard.put_nowait(body)

    async def next(self) -> bytes:
        """The next announcement."""
        return await asyncio.wait_for(self._heard.get(), PATIENCE)

    @property
    def silent(self) -> bool:
        """Whether there is none."""
        return self._heard.empty()


async def until_hearing(broker: Broker) -> None:
    async def hears() -> bool:
        return broker.hearing

    await until(hears)


async def test_an_announcement_reaches_all_who_listen_and_oneself(harness: Harness) -> None:
    brokers = [await harness.open() for _ in range(3)]
    ears = [Ear() for _ in brokers]
    for broker, ear in zip(brokers, ears, strict=True):
        broker.listen(ear)
        await until_hearing(broker)
    for number, broker in enumerate(brokers):
        broker.announce(f"{number}".encode())
    for ear in ears:
        assert {await ear.next() for _ in brokers} == {b"0", b"1", b"2"}
        assert ear.silent


async def test_a_listener_that_stopped_hears_no_more(broker: Broker, harness: Harness) -> None:
    first, second = Ear(), Ear()
    listener = broker.listen(first)
    broker.listen(second)
    await until_hearing(broker)
    await listener.stop()
    await listener.stop()
    broker.announce(b"a")
    assert await second.next() == b"a"
    assert first.silent


async def test_a_broker_hears_only_while_somebody_listens(broker: Broker) -> None:
    assert not broker.hearing
    listener = broker.listen(Ear())
    await until_hearing(broker)
    await listener.stop()
    assert not broker.hearing
    ear = Ear()
    broker.listen(ear)
    await until_hearing(broker)
    broker.announce(b"again")
    assert await ear.next() == b"again"


async def test_a_closed_broker_neither_hears_nor_speaks(harness: Harness) -> None:
    closed, other = await harness.open(), await harness.open()
    before, ear = Ear(), Ear()
    closed.listen(before)
    other.listen(ear)
    await until_hearing(closed)
    await until_hearing(other)
    await closed.close()
    assert not closed.hearing
    closed.announce(b"late")
    other.announce(b"a")
    assert await ear.next() == b"a"
    assert before.silent


async def test_a_listener_that_fails_does_not_keep_others_from_hearing(broker: Broker) -> None:
    def broken(_: bytes) -> None:
        raise RuntimeError("broken")

    ear = Ear()
    broker.listen(broken)
    broker.listen(ear)
    await until_hearing(broker)
    for body in (b"a", b"b"):
        broker.announce(body)
        assert await ear.next() == body


@pytest.mark.parametrize("body", [b"", bytes(range(256)) * 400])
async def test_announcements_arrive_byte_for_byte(broker: Broker, body: bytes) -> None:
    ear = Ear()
    broker.listen(ear)
    await until_hearing(broker)
    broker.announce(body)
    assert await ear.next() == body


async def test_to_speak_one_need_not_listen(broker: Broker, harness: Harness) -> None:
    other, ear = await harness.open(), Ear()
    other.listen(ear)
    await until_hearing(other)

    async def heard() -> bool:
        broker.announce(b"a")
        return not ear.silent

    await until(heard)
    assert not broker.hearing
