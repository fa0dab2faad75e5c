"""What the conformance suite needs of a broker: to open it, again and with another topology."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from shared.broker.interface import Broker, Delivery, Outgoing
from shared.broker.topology import PARKED, Queue, Topology, lane_queue

PATIENCE = 30.0
"""Seconds a test waits for something that must happen."""
WORK = "work"
OTHER = "other"
LIMIT = 2
STEP_MS = 200
STEP = f"step.{STEP_MS}ms"


def small_topology(delay_ms: int = STEP_MS) -> Topology:
    """Two working queues with a low limit, and one step that leads to the first."""
    return Topology(
        (
            Queue(PARKED),
            Queue(WORK, dead_letter_to=PARKED, delivery_limit=LIMIT),
            Queue(OTHER, dead_letter_to=PARKED, delivery_limit=LIMIT),
            Queue(f"step.{delay_ms}ms", dead_letter_to=WORK, delay_ms=delay_ms),
        )
    )


def lane(partition: int, name: str = "x") -> str:
    """The one queue of a partition of a lane."""
    return lane_queue(name, partition, "bulk")


def lane_topology(**partitions: int) -> Topology:
    """The small one, and lanes with one class each, by their number of partitions."""
    queues = [
        Queue(lane(number, name), PARKED, LIMIT, single_active=True)
        for name, count in partitions.items()
        for number in range(count)
    ]
    return Topology((*small_topology().queues, *queues))


class Inbox:
    """A handler that keeps what it is given for the test to settle, or acknowledges at once."""

    def __init__(self, *, acknowledge: bool = False) -> None:
        self.arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        self._acknowledge = acknowledge

    def __call__(self, delivery: Delivery) -> None:
        self.arrived.put_nowait(delivery)
        if self._acknowledge:
            delivery.ack()

    async def next(self) -> Delivery:
        """The next delivery."""
        return await asyncio.wait_for(self.arrived.get(), PATIENCE)

    async def take(self, count: int) -> list[Delivery]:
        """The next `count` deliveries, in order."""
        return [await self.next() for _ in range(count)]


class Harness:
    """One store or virtual host, opened as often as a test likes."""

    def __init__(self, create: Callable[[Topology], Broker]) -> None:
        self.create = create
        self._open: list[Broker] = []

    async def open(self, topology: Topology | None = None) -> Broker:
        """A usable broker."""
        broker = self.create(topology or small_topology())
        await broker.start()
        self._open.append(broker)
        await broker.wait_usable(PATIENCE)
        return broker

    async def close(self) -> None:
        """Close whatever is still open."""
        for broker in self._open:
            await broker.close()


async def publish(broker: Broker, *names: str, queue: str = WORK) -> None:
    """Publish one message a name, in order; the body repeats the name."""
    futures = [broker.publish(Outgoing(queue, name.encode(), name)) for name in names]
    await asyncio.wait_for(asyncio.gather(*futures), PATIENCE)


async def stand_by(broker: Broker, queue: str) -> Inbox:
    """What a further consumer of `queue` gets, which is in place: commands keep their order."""
    inbox, probe = Inbox(acknowledge=True), Inbox(acknowledge=True)
    broker.consume(queue, 10, inbox)
    probing = broker.consume(OTHER, 1, probe)
    await publish(broker, "probe", queue=OTHER)
    await probe.next()
    await probing.stop()
    return inbox


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when the condition holds; fails when it never does."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


async def until_depths(broker: Broker, **wanted: int) -> None:
    """Wait until the named queues (dots as underscores) hold that many messages."""

    async def agree() -> bool:
        depths: Mapping[str, int] = await broker.depths()
        by_name = {name.replace(".", "_"): depth for name, depth in depths.items()}
        return all(by_name[name] == depth for name, depth in wanted.items())

    await until(agree)
