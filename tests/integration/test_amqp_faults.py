"""What RabbitMQ does to us, and what must come of it: restarts, alarms, refusals, lost queues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from shared.broker.amqp.broker import AmqpBroker
from shared.broker.interface import (
    Outgoing,
    ParkReason,
    PublishError,
    Refused,
    Unavailable,
)
from shared.broker.topology import ACCEPTED, PARKED, entrance
from shared.settings.model import BrokerSettings
from tests.conformance.harness import (
    LIMIT,
    OTHER,
    PATIENCE,
    WORK,
    Inbox,
    publish,
    small_topology,
    until,
    until_depths,
)
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


async def test_during_an_alarm_what_is_released_is_there_for_others(
    broker: AmqpBroker, rabbitmq_node: RabbitNode
) -> None:
    inbox = Inbox()
    broker.consume(WORK, 10, inbox)
    await publish(broker, "held")
    held = await inbox.next()
    await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0")
    try:
        waiting = broker.publish(Outgoing(OTHER, b"", "waiting"))
        await until_blocked(broker, blocked=True)
        held.release()
        again = await asyncio.wait_for(inbox.next(), PATIENCE)
        assert again.message_id == "held"
        again.ack()
        assert broker.blocked
    finally:
        await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0.4")
    await asyncio.wait_for(waiting, PATIENCE)
    assert inbox.arrived.empty()


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
    await broker.wait_usable(PATIENCE)
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


async def test_a_consumer_whose_queue_was_deleted_consumes_again_and_alone(
    broker: AmqpBroker, rabbitmq_node: RabbitNode, url: str
) -> None:
    inbox, other = Inbox(), Inbox()
    broker.consume(WORK, 10, inbox)
    broker.consume(OTHER, 10, other)
    await publish(broker, "a")
    await publish(broker, "b", queue=OTHER)
    stale, kept = await inbox.next(), await other.next()
    await ctl(rabbitmq_node, "delete_queue", "-p", url.rpartition("/")[2], WORK)

    async def stored() -> bool:
        try:
            await broker.publish(Outgoing(WORK, b"", "again"))
        except PublishError:
            return False
        return True

    await until(stored)
    again = await inbox.next()
    assert again.message_id == "again"
    stale.ack()  # its tag is that of `again` by now
    again.failed()
    assert (await inbox.next()).message_id == "again"
    kept.ack()
    await until_depths(broker, other=0)
    assert other.arrived.empty()


async def test_while_blocked_a_publish_ends_in_time_and_the_alarm_stays_known(
    url: str, rabbitmq_node: RabbitNode
) -> None:
    settings = BrokerSettings.model_validate({"url": url, "confirm_timeout": "500ms"})
    broker = AmqpBroker(settings, small_topology(), "faults")
    await broker.start()
    await broker.wait_usable(PATIENCE)
    await publish(broker, "before")
    await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0")
    try:
        under_way = broker.publish(Outgoing(WORK, b"", "under way"))
        await until_blocked(broker, blocked=True)
        with pytest.raises(Unavailable):
            await asyncio.wait_for(broker.publish(Outgoing(WORK, b"", "held")), PATIENCE)
        await asyncio.gather(under_way, return_exceptions=True)  # the broker may have read it
        assert broker.blocked
    finally:
        await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0.4")
    await broker.wait_usable(PATIENCE)
    await publish(broker, "after")
    await broker.close()


async def test_more_than_the_kernel_takes_does_not_hide_an_alarm(
    url: str, broker: AmqpBroker, rabbitmq_node: RabbitNode
) -> None:
    body = bytes(1 << 20)
    await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0")
    try:
        futures = [broker.publish(Outgoing(WORK, body, f"{n}")) for n in range(40)]
        await until_blocked(broker, blocked=True)
    finally:
        await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0.4")
    await asyncio.wait_for(asyncio.gather(*futures), PATIENCE)
    await until_depths(broker, work=40)


async def test_a_close_during_an_alarm_is_short_and_gives_everything_back(
    url: str, rabbitmq_node: RabbitNode
) -> None:
    broker = AmqpBroker(BrokerSettings(url=url), small_topology(), "faults")
    await broker.start()
    await broker.wait_usable(PATIENCE)
    await publish(broker, "a", "b")
    inbox, after = Inbox(), Inbox()
    broker.consume(WORK, 10, inbox)
    first, second = await inbox.take(2)
    await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0")
    try:
        waiting = broker.publish(Outgoing(WORK, b"", "waiting"))
        await until_blocked(broker, blocked=True)
        moved = second.forward([Outgoing(OTHER, b"", "successor")])
        first.ack()
        await asyncio.wait_for(broker.close(), PATIENCE)
        with pytest.raises(Unavailable):
            await moved
        await asyncio.gather(waiting, return_exceptions=True)  # the broker may have read it
    finally:
        await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0.4")
    again = AmqpBroker(BrokerSettings(url=url), small_topology(), "faults")
    await again.start()
    again.consume(WORK, 10, after)
    assert (await after.next()).message_id == "b"
    await again.close()


async def test_a_message_above_the_brokers_limit_costs_its_neighbours_a_retry_only(
    url: str, rabbitmq_node: RabbitNode
) -> None:
    await ctl(rabbitmq_node, "eval", "application:set_env(rabbit, max_message_size, 100000).")
    try:
        broker = AmqpBroker(BrokerSettings(url=url), small_topology(), "faults")
        await broker.start()
        await broker.wait_usable(PATIENCE)
        with pytest.raises(Unavailable):
            await asyncio.wait_for(
                broker.publish(Outgoing(WORK, bytes(100_001), "large")), PATIENCE
            )
        await broker.wait_usable(PATIENCE)
        await publish(broker, "small")
        await until_depths(broker, work=1)
        await broker.close()
    finally:
        await ctl(rabbitmq_node, "eval", "application:unset_env(rabbit, max_message_size).")


async def test_what_was_confirmed_survives_a_power_cut_of_the_broker(
    broker: AmqpBroker, rabbitmq_node: RabbitNode
) -> None:
    names = [f"{number}" for number in range(50)]
    inbox = Inbox(acknowledge=True)
    await publish(broker, *names)
    await asyncio.to_thread(rabbitmq_node.kill9)
    await asyncio.to_thread(rabbitmq_node.start)
    await broker.wait_usable(PATIENCE)
    broker.consume(WORK, 10, inbox)
    assert {delivery.message_id for delivery in await inbox.take(50)} == set(names)


async def test_what_a_queue_that_was_just_declared_confirmed_survives_a_kill(
    url: str, rabbitmq_node: RabbitNode
) -> None:
    broker = AmqpBroker(BrokerSettings(url=url), entrance(), "faults")
    await broker.start()
    await broker.wait_usable(PATIENCE)
    for queue in (ACCEPTED, PARKED):  # which of them is the newer one is left to chance
        await publish(broker, queue, queue=queue)
    await asyncio.to_thread(rabbitmq_node.kill9)
    await asyncio.to_thread(rabbitmq_node.start)
    await broker.wait_usable(PATIENCE)
    for queue in (ACCEPTED, PARKED):
        inbox = Inbox(acknowledge=True)
        broker.consume(queue, 10, inbox)
        assert (await inbox.next()).message_id == queue
    await broker.close()


async def test_what_is_parked_is_counted_by_its_reason(broker: AmqpBroker) -> None:
    def parked(reason: str) -> float:
        labels = {"reason": reason}
        return REGISTRY.get_sample_value("postroad_parked_messages_total", labels) or 0.0

    before = parked("undecodable"), parked("delivery_limit")
    inbox, seen = Inbox(), Inbox()
    broker.consume(WORK, 10, inbox)
    broker.consume(PARKED, 10, seen)
    await publish(broker, "a")
    await (await inbox.next()).reject(ParkReason.UNDECODABLE, "\ud800 \x00")
    await publish(broker, "b")
    for _ in range(LIMIT + 1):
        (await inbox.next()).failed()
    assert {found.message_id for found in await seen.take(2)} == {"a", "b"}
    await publish(broker, "c")  # its confirm comes after that of the parked message
    assert (parked("undecodable"), parked("delivery_limit")) == (before[0] + 1, before[1] + 1)
