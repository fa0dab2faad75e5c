"""What RabbitMQ does to us, and what must come of it: restarts, alarms, refusals, lost queues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from shared.broker.amqp.broker import AmqpBroker
from shared.broker.interface import Outgoing, PublishError, Refused, Unavailable
from shared.settings.model import BrokerSettings
from tests.conformance.harness import PATIENCE, WORK, Inbox, publish, small_topology, until
from tests.support.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
def url(rabbitmq_node: RabbitNode) -> str:
    return rabbitmq_node.new_vhost()


@pytest.fixture
async def broker(url: str) -> AsyncIterator[AmqpBroker]:
    broker = AmqpBroker(BrokerSettings(url=url), small_topology(), "faults")
    await broker.start()
    await broker.wait_usable(PATIENCE)
    yield broker
    await broker.close()


async def ctl(node: RabbitNode, *arguments: str) -> None:
    await asyncio.to_thread(node.ctl, *arguments)


async def until_blocked(broker: AmqpBroker, *, blocked: bool) -> None:
    async def agrees() -> bool:
        return broker.blocked is blocked

    await until(agrees)


async def test_an_alarm_blocks_publishers_and_lets_consumers_go_on(
    broker: AmqpBroker, rabbitmq_node: RabbitNode
) -> None:
    await publish(broker, "before")
    inbox = Inbox()
    await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0")
    try:
        waiting = broker.publish(Outgoing(WORK, b"", "waiting"))
        await until_blocked(broker, blocked=True)
        assert not broker.usable
        broker.consume(WORK, 10, inbox)
        (await inbox.next()).ack()
    finally:
        await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0.4")
    await asyncio.wait_for(waiting, PATIENCE)
    await until_blocked(broker, blocked=False)
    assert (await inbox.next()).message_id == "waiting"


async def test_a_broker_that_comes_back_finds_its_consumers_again(
    broker: AmqpBroker, rabbitmq_node: RabbitNode
) -> None:
    inbox = Inbox(acknowledge=True)
    broker.consume(WORK, 10, inbox)
    await publish(broker, "before")
    assert (await inbox.next()).message_id == "before"
    await ctl(rabbitmq_node, "stop_app")
    with pytest.raises(Unavailable):
        await asyncio.wait_for(broker.publish(Outgoing(WORK, b"", "down")), PATIENCE)
    assert not broker.usable
    await ctl(rabbitmq_node, "start_app")
    await broker.wait_usable(PATIENCE)
    await publish(broker, "after")
    while (await inbox.next()).message_id != "after":
        pass


async def test_a_settlement_of_a_lost_connection_settles_nothing(
    broker: AmqpBroker, rabbitmq_node: RabbitNode
) -> None:
    inbox = Inbox()
    await publish(broker, "a")
    broker.consume(WORK, 1, inbox)
    stale = await inbox.next()
    await ctl(rabbitmq_node, "close_all_connections", "--global", "test")
    again = await inbox.next()
    assert again.attempts == 1
    stale.ack()
    moved = stale.forward([])
    await publish(broker, "b")
    again.ack()
    assert (await inbox.next()).message_id == "b"
    assert moved.done()


async def test_a_full_queue_refuses_its_own_publishes_only(
    broker: AmqpBroker, rabbitmq_node: RabbitNode, url: str
) -> None:
    vhost = url.rpartition("/")[2]
    policy = '{"max-length": 2, "overflow": "reject-publish"}'
    await ctl(
        rabbitmq_node, "set_policy", "-p", vhost, "full", "^work$", policy, "--apply-to", "queues"
    )

    async def refused() -> bool:
        try:
            await broker.publish(Outgoing(WORK, b"", "more"))
        except Refused:
            return True
        return False

    await until(refused)
    await publish(broker, "elsewhere", queue="other")


async def test_a_queue_that_somebody_deleted_is_declared_again(
    broker: AmqpBroker, rabbitmq_node: RabbitNode, url: str
) -> None:
    await ctl(rabbitmq_node, "delete_queue", "-p", url.rpartition("/")[2], WORK)

    async def stored() -> bool:
        try:
            await broker.publish(Outgoing(WORK, b"", "again"))
        except PublishError:
            return False
        return True

    await until(stored)


async def test_a_forward_waits_for_the_broker_or_gives_the_message_up(
    broker: AmqpBroker, rabbitmq_node: RabbitNode
) -> None:
    inbox = Inbox()
    await publish(broker, "a")
    broker.consume(WORK, 1, inbox)
    delivery = await inbox.next()
    await ctl(rabbitmq_node, "stop_app")
    moved = delivery.forward([Outgoing("other", b"", "successor")])
    with pytest.raises(Unavailable):
        await asyncio.wait_for(moved, PATIENCE)
    await ctl(rabbitmq_node, "start_app")
    await broker.wait_usable(PATIENCE)
    assert (await inbox.next()).message_id == "a"


async def test_a_server_that_is_not_there_is_unavailable_and_counted() -> None:
    before = REGISTRY.get_sample_value("postroad_publish_failures_total", {"error": "unavailable"})
    settings = BrokerSettings(url="amqp://guest:guest@127.0.0.1:9//")
    broker = AmqpBroker(settings, small_topology(), "nowhere")
    await broker.start()
    with pytest.raises(Unavailable):
        await broker.publish(Outgoing(WORK, b"", "a"))
    with pytest.raises(Unavailable):
        await broker.wait_usable(0.05)
    await broker.close()
    after = REGISTRY.get_sample_value("postroad_publish_failures_total", {"error": "unavailable"})
    assert (after or 0) - (before or 0) == 1
