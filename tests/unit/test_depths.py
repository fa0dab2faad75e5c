"""What the gauges of waiting mail show, of real queues of the embedded broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from shared.broker.connect import connect_broker
from shared.broker.interface import Broker, Outgoing
from shared.broker.topology import ACCEPTED, CROWD, DUE, GUARANTEED_EVENTS, PARKED, lane_queue
from shared.depths import DepthWatch, Labels, steps_of
from shared.settings.model import Settings
from tests.support.memory_broker import MemoryBroker
from tests.support.pipeline import eventually

SETTINGS = Settings.model_validate(
    {
        "delivery": {"retry_schedule": ["1m", "4h"]},
        "lanes": [{"name": "default", "partitions": 2}],
        "events": {"guaranteed": ["bank"]},
    }
)
BULK = lane_queue("default", 1, "bulk")
AGAIN = lane_queue("default", 1, "bulk", again=True)
OTHERS = lane_queue("default", 0, "bulk")
SERVED: Mapping[str, Labels] = {
    BULK: ("default", "bulk", "first"),
    AGAIN: ("default", "bulk", "again"),
}
GAUGES = (
    "queued_jobs",
    "waiting_jobs",
    "accepted_waiting",
    "parked_waiting",
    "guaranteed_events_waiting",
)


def shown(name: str) -> dict[tuple[str, ...], float]:
    """The samples of a gauge, by the values of its labels in the order of their names."""
    families = {family.name: family for family in REGISTRY.collect()}
    return {
        tuple(text for _, text in sorted(sample.labels.items())): sample.value
        for sample in families[f"postroad_{name}"].samples
    }


async def until_shown(name: str, *labels: str, value: float) -> None:
    async def agrees() -> bool:
        return shown(name).get(labels) == value

    await eventually(agrees, f"{name}{labels} is {value}")


async def until_forgotten() -> None:
    async def forgotten() -> bool:
        return not any(map(shown, GAUGES))

    await eventually(forgotten, "nothing is shown")


@asynccontextmanager
async def watched(
    broker: Broker, patience: float = 10.0, *, events: bool = False
) -> AsyncIterator[None]:
    watch = DepthWatch(
        broker, steps_of(SETTINGS), lambda: SERVED, events=events, every=0.02, patience=patience
    )
    watch.start()
    try:
        yield
    finally:
        await watch.stop()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    settings = SETTINGS.model_copy(
        update={"broker": SETTINGS.broker.model_copy(update={"url": f"embedded://{tmp_path}"})}
    )
    broker = connect_broker(settings, "delivery")
    await broker.start()
    yield broker
    await broker.close()


async def put(broker: Broker, queue: str, count: int = 1, delay_ms: int | None = None) -> None:
    for number in range(count):
        await broker.publish(Outgoing(queue, b"x", f"{queue}{number}", delay_ms=delay_ms))


async def test_each_message_that_waits_is_shown_where_it_waits(broker: Broker) -> None:
    await put(broker, ACCEPTED, 2)
    await put(broker, PARKED, 3)
    await put(broker, BULK, 4)
    await put(broker, AGAIN, 5)
    await put(broker, OTHERS, 50)
    await put(broker, DUE, 6)
    await put(broker, CROWD, 7)
    await put(broker, DUE, 1, delay_ms=60_000)
    await put(broker, CROWD, 2, delay_ms=60_000)
    await put(broker, DUE, 1, delay_ms=600_000)
    async with watched(broker):
        await until_shown("accepted_waiting", value=2)
        assert shown("parked_waiting") == {(): 3}
        assert shown("queued_jobs") == {
            ("bulk", "first", "default"): 4,
            ("bulk", "again", "default"): 5,
        }
        assert shown("waiting_jobs") == {
            ("1m",): 3,
            ("10m",): 1,
            ("due",): 6,
            ("crowd",): 7,
            **{(step,): 0 for step in ("1s", "5s", "30s", "2m", "4h")},
        }


async def test_what_a_consumer_holds_does_not_wait_in_the_queue(broker: Broker) -> None:
    await put(broker, BULK, 3)
    async with watched(broker):
        await until_shown("queued_jobs", "bulk", "first", "default", value=3)
        broker.consume(BULK, 2, lambda _: None)
        await until_shown("queued_jobs", "bulk", "first", "default", value=1)


async def test_ingress_shows_what_it_declares_and_no_ladder(broker: Broker) -> None:
    await put(broker, ACCEPTED)
    watch = DepthWatch(broker, {}, every=0.02)
    watch.start()
    await until_shown("accepted_waiting", value=1)
    assert shown("parked_waiting") == {(): 0}
    assert shown("waiting_jobs") == shown("queued_jobs") == {}
    await watch.stop()


async def test_old_numbers_go_when_the_watch_ends(broker: Broker) -> None:
    async with watched(broker):
        await until_shown("parked_waiting", value=0)
    assert not any(map(shown, GAUGES))


async def test_old_numbers_go_when_the_broker_is_not_usable_any_more(broker: Broker) -> None:
    async with watched(broker):
        await until_shown("parked_waiting", value=0)
        await broker.close()
        await until_forgotten()


class Moody(MemoryBroker):
    """Answers, or fails in a way nobody foresaw, or never answers."""

    mood = "good"

    async def depths(self, queues: Collection[str] | None = None) -> Mapping[str, int]:
        if self.mood == "bad":
            raise ZeroDivisionError
        if self.mood == "silent":
            await asyncio.Event().wait()
        return await super().depths(queues)


@pytest.mark.parametrize("mood", ["bad", "silent"])
async def test_a_broker_that_does_not_answer_is_asked_again(mood: str) -> None:
    broker = Moody()
    await put(broker, PARKED)
    async with watched(broker, patience=0.05):
        await until_shown("parked_waiting", value=1)
        broker.mood = mood
        await until_forgotten()
        broker.mood = "good"
        await until_shown("parked_waiting", value=1)


async def test_a_blocked_broker_is_asked_all_the_same() -> None:
    broker = MemoryBroker()
    await put(broker, PARKED)
    broker.block()
    async with watched(broker):
        await until_shown("parked_waiting", value=1)


async def test_guaranteed_events_that_nobody_reads_are_counted_where_there_are_any(
    broker: Broker,
) -> None:
    await put(broker, GUARANTEED_EVENTS, 3)
    async with watched(broker, events=True):
        await until_shown("guaranteed_events_waiting", value=3)
    await until_forgotten()
    async with watched(broker):
        await until_shown("parked_waiting", value=0)
        assert shown("guaranteed_events_waiting") == {}
