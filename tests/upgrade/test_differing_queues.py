"""A queue that is there with other arguments: used as it is, or refused with a word to the wise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from shared.broker.amqp.broker import AmqpBroker
from shared.broker.amqp.differing import differences, read
from shared.broker.amqp.migrating import AmqpMigration
from shared.broker.interface import Outgoing, Unavailable
from shared.broker.migration import Difference
from shared.broker.topology import DELIVERY_LIMIT, PARKED, Queue, Topology
from shared.settings.model import BrokerSettings
from tests.conformance.harness import PATIENCE, until
from tests.upgrade.queues import contents, declare_otherwise

pytestmark = pytest.mark.rabbitmq

WORK = Queue("work", dead_letter_to=PARKED, delivery_limit=DELIVERY_LIMIT)
TOPOLOGY = Topology((Queue(PARKED), WORK, Queue("fine", PARKED, DELIVERY_LIMIT)))


@pytest.fixture
async def broker(url: str) -> AsyncIterator[AmqpBroker]:
    broker = AmqpBroker(BrokerSettings(url=url), TOPOLOGY, "differing")
    yield broker
    await broker.close()


def test_all_arguments_that_differ_are_found_and_nothing_is_changed(connection: Any) -> None:
    declare_otherwise(connection, WORK, x_delivery_limit=5, x_overflow=None, x_max_length=9)
    found = differences(connection, WORK)
    assert set(found) == {
        Difference("work", "x-delivery-limit", "20", "5", harmless=True),
        Difference("work", "x-overflow", "reject-publish", "none", harmless=False),
        Difference("work", "x-max-length", "none", "9", harmless=False),
    }
    assert differences(connection, WORK) == found


def test_a_queue_as_it_should_be_differs_in_nothing(connection: Any) -> None:
    declare_otherwise(connection, WORK)
    assert differences(connection, WORK) == []


def test_a_limit_at_which_messages_are_dropped_is_not_harmless(connection: Any) -> None:
    declare_otherwise(connection, Queue(PARKED), x_delivery_limit=5)
    (found,) = differences(connection, Queue(PARKED))
    assert (found.argument, found.found, found.harmless) == ("x-delivery-limit", "5", False)


def test_a_classic_queue_is_never_used(connection: Any) -> None:
    classic = {"x_dead_letter_strategy": None, "x_delivery_limit": None}
    declare_otherwise(connection, WORK, x_queue_type="classic", **classic)
    assert any(one.argument == "x-queue-type" for one in differences(connection, WORK))


def test_a_refusal_in_words_that_we_do_not_know_is_told_whole_and_not_harmless() -> None:
    found = read(WORK, "PRECONDITION_FAILED - the moon is full")
    assert (found.found, found.harmless) == ("PRECONDITION_FAILED - the moon is full", False)


async def test_a_harmless_difference_is_told_once_and_mail_flows(
    connection: Any, url: str, broker: AmqpBroker
) -> None:
    declare_otherwise(connection, WORK, x_delivery_limit=5)
    with structlog.testing.capture_logs() as logs:
        await broker.start()
        broker.consume("fine", 1, lambda delivery: delivery.ack())
        await broker.wait_usable(PATIENCE)
        await broker.publish(Outgoing("work", b"a", "a", headers={"x-postroad-reason": "test"}))
    told = [line for line in logs if line.get("argument")]
    assert [(line["log_level"], line["queue"], line["wanted"], line["found"]) for line in told] == [
        ("warning", "work", "20", "5")
    ]
    assert contents(url, ["work"]) == ["a"]


async def test_a_harmful_difference_is_told_with_what_to_do_and_nothing_is_published(
    connection: Any, broker: AmqpBroker
) -> None:
    declare_otherwise(connection, WORK, x_overflow=None)
    with structlog.testing.capture_logs() as logs:
        await broker.start()

        async def told() -> bool:
            return sum("work: x-overflow" in str(line.get("error")) for line in logs) >= 2

        await until(told)
    (line,) = [line for line in logs if line.get("argument")]
    assert (line["log_level"], line["queue"]) == ("error", "work")
    assert (line["argument"], line["wanted"], line["found"]) == (
        "x-overflow",
        "reject-publish",
        "none",
    )
    assert line["run"] == "postroad queues --migrate"
    assert not any("exception" in line or "exc_info" in line for line in logs)
    assert not broker.usable
    with pytest.raises(Unavailable):
        await broker.publish(Outgoing("fine", b"", "a"))


async def test_after_a_migration_a_service_goes_on_by_itself(
    connection: Any, url: str, broker: AmqpBroker
) -> None:
    declare_otherwise(connection, WORK, x_overflow=None)
    await broker.start()
    lines: list[str] = []
    migration = AmqpMigration(BrokerSettings(url=url), TOPOLOGY)
    await asyncio.to_thread(migration.migrate, lines.append)
    await broker.wait_usable(PATIENCE)
    await broker.publish(Outgoing("work", b"a", "a", headers={"x-postroad-reason": "test"}))
    assert await asyncio.to_thread(migration.look) == []
    assert contents(url, ["work"]) == ["a"]
    assert "work: declared anew" in lines
