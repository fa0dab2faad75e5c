"""How much waits in which queue, the same on both brokers."""

from __future__ import annotations

from shared.broker.interface import Outgoing
from tests.conformance.harness import (
    OTHER,
    WORK,
    Harness,
    Inbox,
    publish,
    small_topology,
    until_depths,
)


async def test_depths_count_what_nobody_holds_and_delayed_messages_by_step(
    harness: Harness,
) -> None:
    broker = await harness.open(small_topology(60_000))
    await publish(broker, *"abc")
    await publish(broker, "d", queue=OTHER)
    await broker.publish(Outgoing(WORK, b"", "later", delay_ms=60_000))
    inbox = Inbox()
    broker.consume(WORK, 1, inbox)
    await inbox.next()
    await until_depths(broker, work=2, other=1, postroad_parked=0, step_60000ms=1)


async def test_depths_of_some_queues_are_of_these_alone_whether_they_are_there_or_not(
    harness: Harness,
) -> None:
    broker = await harness.open()
    await publish(broker, *"ab")
    await publish(broker, "c", queue=OTHER)
    await until_depths(broker, work=2, other=1)
    assert await broker.depths(["never.declared", WORK]) == {"never.declared": 0, WORK: 2}
    assert await broker.depths([]) == {}
