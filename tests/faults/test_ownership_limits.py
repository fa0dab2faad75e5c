"""Limits hold while delivery workers come, leave and die, as receivers count them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from shared.plan.limits import Limits
from tests.support.counting import CountingReceiver
from tests.support.owned import Watch
from tests.support.pipeline import Pipeline, eventually
from tests.support.rig import CONTENT, SENDER
from tests.support.smtp_client import SmtpClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEARTBEAT = 1.0
PARTITIONS = 6
DOMAINS = [f"d{number}.test" for number in range(12)]
RATES = {"connections": 3, "messages_per_connection": 4, "messages_per_second": 5}
A_MINUTE = 12
"""Connections a minute, to each site: used up before the workers have come and gone."""


async def test_limits_of_every_kind_hold_while_workers_come_leave_and_die(
    broker_url: str, tmp_path: Path
) -> None:
    """More mail waits for each site than a minute allows, so whoever forgets something shows."""
    settings = {
        "delivery": {"heartbeat": f"{HEARTBEAT:.0f}s"},
        "lanes": [{"name": "default", "partitions": PARTITIONS}],
        "limits": {"default": {**RATES, "connections_per_minute": A_MINUTE}},
    }
    async with AsyncExitStack() as stack:
        receivers = {
            domain: await stack.enter_async_context(CountingReceiver(delay=0.2))
            for domain in DOMAINS
        }
        routes = {domain: receiver.port for domain, receiver in receivers.items()}
        pipeline = await stack.enter_async_context(Pipeline(tmp_path, broker_url, routes, settings))
        watch = await stack.enter_async_context(Watch(pipeline, PARTITIONS))
        await watch.settled(1)
        await submit(pipeline, 60)
        for count, name in ((2, "delivery-2"), (3, "delivery-3")):
            await pipeline.start([name])
            await watch.settled(count)
        pipeline.terminate("delivery")
        await pipeline.wait_drained("delivery")
        await watch.settled(2)
        await until(all, receivers.values(), A_MINUTE)
        assert violations(receivers.values(), A_MINUTE) == []

        await pipeline.kill9("delivery-2")
        await watch.settled(1)
        await until(any, receivers.values(), A_MINUTE + 1)
        # What the dead one did is assumed to have been spread over the minute before.
        assert violations(receivers.values(), 2 * A_MINUTE) == []


async def submit(pipeline: Pipeline, count: int) -> None:
    """So many mails, each to every domain."""
    async with SmtpClient(pipeline.smtp_port) as client:
        for number in range(count):
            recipients = [f"r{number}@{domain}" for domain in DOMAINS]
            assert (await client.send(SENDER, recipients, CONTENT)).code == 250


async def until(
    which: Callable[[Iterable[bool]], bool], receivers: Collection[CountingReceiver], count: int
) -> None:
    """Return once all, or any, of them have seen so many connections."""

    async def enough() -> bool:
        return which(len(receiver.connections) >= count for receiver in receivers)

    await eventually(enough, f"{which.__name__} got {count} connections", 90)


def violations(receivers: Collection[CountingReceiver], a_minute: int) -> list[str]:
    """What exceeded the limits, at any of them."""
    limits = Limits(**RATES, connections_per_minute=a_minute)
    return [violation for receiver in receivers for violation in receiver.violations(limits)]
