"""Whoever exchanges queues is alone: all others leave, stay away, and come back by themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from shared.broker.amqp.attendance import MigratingError, alone, attend
from shared.broker.amqp.broker import AmqpBroker
from shared.broker.amqp.connection import LinkOptions, connect
from shared.broker.interface import Outgoing, Unavailable
from shared.broker.migration import MigrationError
from shared.settings.model import BrokerSettings
from tests.conformance.harness import OTHER, PATIENCE, WORK, Inbox, publish, small_topology, until

pytestmark = pytest.mark.rabbitmq


@contextmanager
def another(url: str) -> Iterator[Any]:
    opened = connect(LinkOptions(url, "another", 60))
    try:
        yield opened
    finally:
        opened.collect()


@asynccontextmanager
async def alone_for_a_while(url: str) -> AsyncIterator[None]:
    """Somebody, on a thread, is alone for the length of the block."""
    begun, over = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def be_alone() -> None:
        with another(url) as connection, alone(connection, PATIENCE):
            loop.call_soon_threadsafe(begun.set)
            over.wait(PATIENCE)

    being = asyncio.create_task(asyncio.to_thread(be_alone))
    try:
        await asyncio.wait_for(begun.wait(), PATIENCE)
        yield
    finally:
        over.set()
        await being


@pytest.fixture
async def broker(url: str) -> AsyncIterator[AmqpBroker]:
    broker = AmqpBroker(BrokerSettings(url=url), small_topology(), "attending")
    await broker.start()
    await broker.wait_usable(PATIENCE)
    yield broker
    await broker.close()


async def test_a_service_leaves_stays_away_and_comes_back(broker: AmqpBroker, url: str) -> None:
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    await publish(broker, "held")
    held = await inbox.next()
    async with alone_for_a_while(url):
        assert not broker.usable
        with pytest.raises(Unavailable):
            await broker.publish(Outgoing(OTHER, b"", "now"))
        with another(url) as connection:
            at_work = connection.channel().queue_declare(WORK, passive=True)
        assert (at_work.message_count, at_work.consumer_count) == (1, 0)
    await broker.wait_usable(PATIENCE)
    await publish(broker, "then", queue=OTHER)
    held.ack()  # of a connection that is gone
    assert (await inbox.next()).message_id == "held"


async def test_who_comes_while_somebody_is_alone_waits(url: str) -> None:
    late = AmqpBroker(BrokerSettings(url=url), small_topology(), "late")
    async with alone_for_a_while(url):
        await late.start()
        with pytest.raises(Unavailable):
            await late.wait_usable(0.5)
        with another(url) as connection, pytest.raises(MigratingError):
            attend(connection)
    await late.wait_usable(PATIENCE)
    await late.close()


async def test_when_whoever_is_alone_dies_all_come_back(broker: AmqpBroker, url: str) -> None:
    with another(url) as connection:
        holding = alone(connection, PATIENCE)
        await asyncio.to_thread(holding.__enter__)
        assert not broker.usable
    await broker.wait_usable(PATIENCE)
    await publish(broker, "a")


def test_somebody_who_does_not_leave_is_not_waited_for_for_ever(url: str) -> None:
    with another(url) as frozen, another(url) as connection:
        attend(frozen)
        with pytest.raises(MigrationError, match="1 connections of postroad do not leave"):
            alone(connection, 0.5).__enter__()


def test_only_one_can_be_alone(url: str) -> None:
    with another(url) as first, another(url) as second, alone(first, PATIENCE):  # noqa: SIM117
        with pytest.raises(MigrationError, match="another migration"):
            alone(second, PATIENCE).__enter__()


async def test_a_word_to_leave_that_nobody_heard_sends_nobody_away_later(
    broker: AmqpBroker, url: str
) -> None:
    async with alone_for_a_while(url):
        pass
    await broker.wait_usable(PATIENCE)

    async def flows() -> bool:
        await publish(broker, "a")
        return True

    await until(flows)
    assert broker.usable
