"""RabbitMQ before 3.10.20 stops all retries after two faults of its own."""

from __future__ import annotations

import asyncio

import pytest
import structlog.testing

from shared.broker.amqp.broker import AmqpBroker
from shared.broker.amqp.version import may_forget_retries, parse_version
from shared.broker.interface import Outgoing
from shared.settings.model import BrokerSettings
from tests.conformance.harness import STEP_MS, WORK, Harness, Inbox, small_topology
from tests.support.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq

TWO_FAULTS = (
    "[exit(P, kill) || {_, P, _, _} <- "
    "lists:sublist(supervisor:which_children(rabbit_fifo_dlx_sup), 2)]."
)
VERSION = "rabbit_misc:version()."


async def test_it_is_told_once_and_the_nodes_of_the_tests_go_on(rabbitmq_node: RabbitNode) -> None:
    settings = BrokerSettings(url=rabbitmq_node.new_vhost())
    harness = Harness(lambda topology: AmqpBroker(settings, topology, "test"))
    with structlog.testing.capture_logs() as lines:
        broker = await harness.open(small_topology())
        inbox = Inbox(acknowledge=True)
        broker.consume(WORK, 1, inbox)
        faults = await asyncio.to_thread(rabbitmq_node.ctl, "eval", TWO_FAULTS)
        await broker.publish(Outgoing(WORK, b"later", "a", delay_ms=STEP_MS))
        delivery = await inbox.next()
        await harness.close()

    assert faults.strip() == "[true,true]"
    assert delivery.body == b"later"
    version = parse_version(rabbitmq_node.ctl("eval", VERSION).strip().strip('"'))
    warned = [line for line in lines if "retries may stop" in line["event"]]
    assert len(warned) == may_forget_retries(version)
