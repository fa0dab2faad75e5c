"""What RabbitMQ does to events, and what it must never do to mail because of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from shared.broker.amqp.broker import AmqpBroker
from shared.broker.interface import Outgoing
from shared.events.emitter import Emitter
from shared.settings.model import BrokerSettings
from shared.settings.telling import EventSettings
from tests.conformance.harness import PATIENCE, WORK, Inbox, publish, small_topology, until
from tests.conformance.test_members import Ear
from tests.integration.test_amqp_faults import ctl
from tests.support.rabbitmq import RabbitNode
from tests.unit.events.test_emitter import ALWAYS, dropped, numbered

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def url(rabbitmq_node: RabbitNode) -> str:
    return rabbitmq_node.new_vhost()


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Callable[[], AmqpBroker]]:
    brokers: list[AmqpBroker] = []

    def create() -> AmqpBroker:
        brokers.append(AmqpBroker(BrokerSettings(url=url), small_topology(), "events"))
        return brokers[-1]

    yield create
    for broker in brokers:
        await broker.close()


async def until_hearing(broker: AmqpBroker) -> None:
    async def hears() -> bool:
        return broker.events.hearing

    await until(hears)


async def test_a_broker_that_is_away_costs_events_and_no_mail(
    opened: Callable[[], AmqpBroker], rabbitmq_node: RabbitNode
) -> None:
    broker, before = opened(), dropped("full")
    await broker.start()
    await broker.wait_usable(PATIENCE)
    emitter, ear = Emitter(ALWAYS, broker.events), Ear()
    broker.events.follow(["#"], ear)
    await until_hearing(broker)
    await ctl(rabbitmq_node, "stop_app")

    async def gone() -> bool:
        return not broker.events.hearing

    await until(gone)
    emitter.emit(numbered(2000))
    assert dropped("full") > before
    await ctl(rabbitmq_node, "start_app")
    await broker.wait_usable(PATIENCE)
    await publish(broker, "mail")
    # What was kept is told once the broker is there again: to those who were there first.
    await until_hearing(broker)
    emitter.emit(numbered(1))
    await ear.next()
    await emitter.stop()


async def test_an_alarm_stops_events_and_not_those_who_make_them(
    opened: Callable[[], AmqpBroker], rabbitmq_node: RabbitNode
) -> None:
    broker, before = opened(), dropped("full")
    await broker.start()
    await broker.wait_usable(PATIENCE)
    emitter, ear = Emitter(ALWAYS, broker.events), Ear()
    broker.events.follow(["#"], ear)
    await until_hearing(broker)
    inbox = Inbox()
    await publish(broker, "before")
    await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0")
    try:
        waiting = broker.publish(Outgoing(WORK, b"", "waiting"))

        async def blocked() -> bool:
            emitter.emit(numbered(1))
            return broker.blocked and dropped("full") > before

        async def full() -> bool:
            emitter.emit(numbered(200))
            return await blocked()

        await until(full)
        broker.consume(WORK, 10, inbox)
        (await inbox.next()).ack()
    finally:
        await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0.4")
    await asyncio.wait_for(waiting, PATIENCE)
    assert (await inbox.next()).message_id == "waiting"
    await ear.next()
    await emitter.stop()


async def test_what_is_told_waits_for_a_follower_with_a_name(
    opened: Callable[[], AmqpBroker],
) -> None:
    store, teller = opened(), opened()
    store.events.follow(["#"], Ear(), name="store")
    await until_hearing(store)
    await store.close()

    async def told() -> bool:
        return teller.events.scatter([("a", b"meanwhile")])

    await until(told)
    again, ear = opened(), Ear()
    again.events.follow(["#"], ear, name="store")
    assert await ear.next() == b"meanwhile"


async def test_a_connection_that_is_lost_is_made_again_and_followers_hear_on(
    opened: Callable[[], AmqpBroker], rabbitmq_node: RabbitNode
) -> None:
    broker, ear = opened(), Ear()
    broker.events.follow(["#"], ear)
    await until_hearing(broker)
    await ctl(rabbitmq_node, "close_all_connections", "--global", "test")

    async def heard() -> bool:
        broker.events.scatter([("a", b"x")])
        return broker.events.hearing and not ear.silent

    await until(heard)


async def test_an_emitter_that_nobody_wants_opens_no_connection(url: str) -> None:
    broker = AmqpBroker(BrokerSettings(url="amqp://127.0.0.1:9//"), small_topology(), "events")
    emitter = Emitter(EventSettings.model_validate({"publish": "never"}), broker.events)
    emitter.start()
    emitter.emit(numbered(1))
    await emitter.stop()
    assert broker.events._link is None
    await broker.close()
