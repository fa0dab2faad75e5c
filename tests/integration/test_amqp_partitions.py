"""Many queues on RabbitMQ: their declaration, their channels, former plans, announcements."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import structlog.testing

from shared.broker.amqp.broker import AmqpBroker
from shared.broker.interface import Outgoing, PublishError, Unavailable
from shared.broker.topology import PARKED, Queue, Topology, build_topology
from shared.settings.model import BrokerSettings
from tests.conformance.harness import (
    LIMIT,
    OTHER,
    PATIENCE,
    WORK,
    Inbox,
    lane,
    lane_topology,
    publish,
    small_topology,
    until,
)
from tests.conformance.test_members import Ear, until_hearing
from tests.support.rabbitmq import RabbitNode
from tests.support.tcp_proxy import tcp_proxy

pytestmark = pytest.mark.rabbitmq

ATTENDING = 2
"""The publishing and the consuming connection each consume from the queue of attendance."""


@pytest.fixture
def url(rabbitmq_node: RabbitNode) -> str:
    return rabbitmq_node.new_vhost()


@contextlib.asynccontextmanager
async def opened(url: str, topology: Topology | None = None) -> AsyncIterator[AmqpBroker]:
    broker = AmqpBroker(BrokerSettings(url=url), topology or small_topology(), "partitions")
    await broker.start()
    try:
        await broker.wait_usable(PATIENCE)
        yield broker
    finally:
        await broker.close()


async def ctl(node: RabbitNode, *arguments: str) -> str:
    return await asyncio.to_thread(node.ctl, *arguments)


async def listed(node: RabbitNode, what: str, url: str, column: str) -> list[str]:
    """One column of `rabbitmqctl list_...` for the test's virtual host."""
    vhost = url.rpartition("/")[2]
    if what == "connections":
        rows = await ctl(node, "list_connections", "vhost", column)
        return [row.split("\t")[1] for row in rows.splitlines() if row.startswith(vhost)]
    return (await ctl(node, f"list_{what}", "-p", vhost, "--no-table-headers", column)).split()


async def test_eight_lanes_are_there_after_a_start_from_nothing(
    url: str, rabbitmq_node: RabbitNode
) -> None:
    topology = build_topology([60_000], {f"lane{number}": 8 for number in range(8)})
    async with opened(url, topology):
        queues = set(await listed(rabbitmq_node, "queues", url, "name"))
    assert queues >= set(topology.names())


async def test_each_connection_is_opened_by_its_first_use(
    url: str, rabbitmq_node: RabbitNode
) -> None:
    parts = urlsplit(url)
    async with tcp_proxy(parts.port or 5672) as proxy:
        through = parts._replace(netloc=f"guest:guest@127.0.0.1:{proxy.port}").geturl()
        async with opened(through, lane_topology(x=2)) as broker:
            assert proxy.connections == 1
            for number in range(2):
                broker.consume(lane(number), 10, Inbox())
            await broker.wait_usable(PATIENCE)
            assert proxy.connections == 2
            broker.listen(Ear())
            broker.listen(Ear())
            await until_hearing(broker)
            assert proxy.connections == 3


async def test_stopped_consumers_leave_no_channel_once_all_is_settled(
    url: str, rabbitmq_node: RabbitNode
) -> None:
    async with opened(url, lane_topology(x=2)) as broker:
        broker.consume(WORK, 10, Inbox())
        inbox = Inbox()
        holding = broker.consume(lane(0), 10, inbox)
        await publish(broker, "a", queue=lane(0))
        held = await inbox.next()
        await holding.stop()
        for _ in range(30):
            await broker.consume(lane(1), 10, Inbox()).stop()

        async def channels_are(count: int) -> bool:
            return (
                len(await listed(rabbitmq_node, "consumers", url, "channel_pid")) == 1 + ATTENDING
                and (await listed(rabbitmq_node, "connections", url, "channels")).count(str(count))
                > 0
            )

        # Attendance, the one that is served, and the one that holds a message.
        await until(lambda: channels_are(3))
        held.ack()
        await until(lambda: only_two_channels_each(rabbitmq_node, url))


async def only_two_channels_each(node: RabbitNode, url: str) -> bool:
    return set(await listed(node, "connections", url, "channels")) == {"2"}


async def test_more_queues_than_the_broker_allows_channels_are_served_in_turn(
    url: str, rabbitmq_node: RabbitNode
) -> None:
    await ctl(rabbitmq_node, "eval", "application:set_env(rabbit, channel_max, 6).")
    try:
        async with opened(url, lane_topology(x=8)) as broker:
            inbox = Inbox(acknowledge=True)
            consumers = [broker.consume(lane(number), 10, inbox) for number in range(8)]
            for number in range(8):
                await publish(broker, f"{number}", queue=lane(number))
            served = {(await inbox.next()).message_id for _ in range(5)}
            assert broker.usable
            for name in served:
                await consumers[int(name)].stop()
            rest = {(await inbox.next()).message_id for _ in range(3)}
            assert served | rest == {f"{number}" for number in range(8)}
    finally:
        await ctl(rabbitmq_node, "eval", "application:set_env(rabbit, channel_max, 2047).")


async def test_a_left_over_queue_that_somebody_deletes_stays_away_and_harms_no_other(
    url: str, rabbitmq_node: RabbitNode
) -> None:
    vhost = url.rpartition("/")[2]
    async with opened(url, lane_topology(x=1)) as former:
        await publish(former, "a", queue=lane(0))
    inbox, other = Inbox(acknowledge=True), Inbox(acknowledge=True)
    async with opened(url) as broker:
        broker.consume(WORK, 10, other)
        broker.consume(OTHER, 10, other)
        left_over = broker.consume(lane(0), 10, inbox)
        assert (await inbox.next()).message_id == "a"
        await ctl(rabbitmq_node, "delete_queue", "-p", vhost, lane(0))
        await ctl(rabbitmq_node, "delete_queue", "-p", vhost, OTHER)

        async def mended() -> bool:
            try:
                await publish(broker, "b", queue=OTHER)
            except PublishError:
                return False
            return True

        await until(mended)
        assert (await other.next()).message_id == "b"
        await publish(broker, "c")
        assert (await other.next()).message_id == "c"
        assert lane(0) not in await listed(rabbitmq_node, "queues", url, "name")
        assert list(await broker.left_over()) == []
        await left_over.stop()


async def test_to_consume_what_is_not_there_harms_no_other(url: str) -> None:
    inbox = Inbox()
    async with opened(url) as broker:
        absent = broker.consume(lane(9), 10, Inbox())
        broker.consume(WORK, 10, inbox)
        await publish(broker, "a")
        assert (await inbox.next()).message_id == "a"
        await absent.stop()


async def test_plans_that_begin_at_the_same_time_are_all_on_record(url: str) -> None:
    names = [f"lane{number}" for number in range(6)]
    async with contextlib.AsyncExitStack() as stack:
        brokers = [
            AmqpBroker(BrokerSettings(url=url), lane_topology(**{name: 1}), name) for name in names
        ]
        for broker in brokers:
            await broker.start()
            stack.push_async_callback(broker.close)
        for broker in brokers:
            await broker.wait_usable(PATIENCE)
        await asyncio.gather(*(broker.left_over() for broker in brokers))
    async with opened(url) as last:

        async def complete() -> bool:
            return sorted(await last.left_over()) == [lane(0, name) for name in names]

        await until(complete)


async def test_the_queues_of_the_first_release_are_left_over(url: str) -> None:
    first = Queue("postroad.lane.default.bulk", PARKED, LIMIT)
    async with opened(url, Topology((Queue(PARKED), first))) as old:
        await publish(old, "a", queue=first.name)
    async with opened(url, lane_topology(default=1)) as broker:
        assert list(await broker.left_over()) == [first.name]
        inbox = Inbox()
        broker.consume(first.name, 10, inbox)
        assert (await inbox.next()).message_id == "a"


async def test_during_an_alarm_nobody_is_heard_and_afterwards_all_are(
    url: str, rabbitmq_node: RabbitNode
) -> None:
    inbox, ear = Inbox(acknowledge=True), Ear()
    async with opened(url) as broker:
        broker.consume(WORK, 10, inbox)
        await publish(broker, "a")
        broker.listen(ear)
        await until_hearing(broker)
        await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0")
        try:

            async def deaf() -> bool:
                broker.announce(b"during")
                return not broker.hearing

            await until(deaf)
            broker.announce(b"lost")
            assert (await inbox.next()).message_id == "a"
        finally:
            await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0.4")
        await until_hearing(broker)
        broker.announce(b"after")
        heard = [await ear.next()]
        while heard[-1] != b"after":
            heard.append(await ear.next())
        assert set(heard) <= {b"during", b"after"}


async def test_a_broker_that_comes_back_is_heard_again(url: str, rabbitmq_node: RabbitNode) -> None:
    ear = Ear()
    async with opened(url) as broker:
        broker.listen(ear)
        await until_hearing(broker)
        with structlog.testing.capture_logs() as logs:
            await ctl(rabbitmq_node, "close_all_connections", "--global", "test")

            async def lost() -> bool:
                words = [(line["event"], str(line.get("connection"))) for line in logs]
                return ("no connection to the broker", "postroad-partitions-members") in words

            await until(lost)
        await until_hearing(broker)
        broker.announce(b"a")
        assert await ear.next() == b"a"


async def test_a_lost_link_begins_again_with_all_its_consumers(
    url: str, rabbitmq_node: RabbitNode
) -> None:
    inbox = Inbox(acknowledge=True)
    async with opened(url, lane_topology(x=8)) as broker:
        stopped = broker.consume(lane(0), 10, inbox)
        for number in range(8):
            broker.consume(lane(number), 10, inbox)
        await broker.wait_usable(PATIENCE)
        await stopped.stop()
        await ctl(rabbitmq_node, "close_all_connections", "--global", "test")

        async def stored() -> bool:
            try:
                await broker.publish(Outgoing(lane(7), b"", "probe"))
            except Unavailable:
                return False
            return True

        await until(stored)
        for number in range(7):
            await publish(broker, f"{number}", queue=lane(number))
        seen = {(await inbox.next()).message_id for _ in range(8)}
        assert seen == {"probe", *(f"{number}" for number in range(7))}
