"""The buffer of events: bounded, in batches, and in nobody's way."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from shared import metrics
from shared.broker.interface import LONGEST_BODY
from shared.broker.topology import GUARANTEED_EVENTS
from shared.events import emitter as module
from shared.events.codec import decode_event
from shared.events.emitter import Emitter, silent
from shared.events.model import MailEvent
from shared.settings.telling import EventSettings, Publish
from tests.support.memory_events import MemoryEvents
from tests.unit.events.test_codec import EVENT

ALWAYS = EventSettings(publish=Publish.ALWAYS, buffer_bytes=65_536)


def dropped(reason: str) -> float:
    return metrics.dropped_events.labels(reason).value


def numbered(count: int, tenant: str = "shop") -> list[MailEvent]:
    return [replace(EVENT, id=str(number), tenant=tenant) for number in range(count)]


async def told(line: MemoryEvents, count: int) -> list[MailEvent]:
    async with asyncio.timeout(5):
        while len(line.events()) < count:
            await asyncio.sleep(0.01)
    return line.events()


async def test_events_are_told_in_batches_by_key_each_in_order() -> None:
    line = MemoryEvents()
    emitter = Emitter(ALWAYS, line)
    emitter.emit(numbered(3))
    emitter.emit(numbered(2, "a.b"))
    emitter.emit(numbered(1))
    assert not line.told
    await told(line, 6)
    assert [key for key, _ in line.told] == [
        "accepted.shop.bulk.none", "accepted.a%2Eb.bulk.none",
    ]  # fmt: skip
    assert [event.id for event in line.events()] == ["0", "1", "2", "0", "0", "1"]
    await emitter.stop()


async def test_a_batch_has_no_body_that_is_too_long_and_loses_nothing() -> None:
    line = MemoryEvents()
    emitter = Emitter(EventSettings(publish=Publish.ALWAYS), line)
    many = [replace(one, reply="x" * 20_000) for one in numbered(10)]
    emitter.emit(many)
    assert await told(line, 10) == many
    assert max(len(body) for _, body in line.told) <= LONGEST_BODY
    assert len(line.told) == 4
    await emitter.stop()


async def test_one_event_that_is_too_long_is_dropped_and_counted() -> None:
    line, before = MemoryEvents(), dropped("long")
    emitter = Emitter(EventSettings(publish=Publish.ALWAYS), line)
    emitter.emit([replace(EVENT, reply="x" * LONGEST_BODY), EVENT])
    assert await told(line, 1) == [EVENT]
    assert dropped("long") == before + 1
    await emitter.stop()


async def test_what_the_broker_does_not_take_waits_in_bounds_and_the_rest_is_dropped() -> None:
    line, before = MemoryEvents(away=True), dropped("full")
    emitter = Emitter(ALWAYS, line)
    made = metrics.events.labels("accepted").value
    emitter.emit(numbered(2000))
    assert metrics.events.labels("accepted").value == made + 2000
    lost = int(dropped("full") - before)
    assert 0 < lost < 2000
    line.away = False
    assert await told(line, 2000 - lost) == numbered(2000 - lost)
    emitter.emit(numbered(5))
    assert len(await told(line, 2005 - lost)) == 2005 - lost
    await emitter.stop()


async def test_what_is_left_at_the_end_is_told_or_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_SECONDS", 0.1)
    line = MemoryEvents()
    emitter = Emitter(ALWAYS, line)
    emitter.emit(numbered(3))
    await emitter.stop()
    assert line.events() == numbered(3)
    emitter, before = Emitter(ALWAYS, MemoryEvents(away=True)), dropped("full")
    emitter.emit(numbered(3))
    await emitter.stop()
    assert dropped("full") == before + 3


async def test_on_demand_events_are_wanted_while_somebody_follows() -> None:
    line = MemoryEvents()
    emitter = Emitter(EventSettings(), line)
    emitter.start()
    assert not emitter.concerns("shop")
    emitter.emit(numbered(1))
    line.followed = True
    async with asyncio.timeout(5):
        while not emitter.concerns("shop"):
            await asyncio.sleep(0.01)
    emitter.emit(numbered(2))
    assert await told(line, 2) == numbered(2)
    await emitter.stop()


async def test_a_silent_emitter_asks_nobody_and_tells_nobody() -> None:
    emitter = silent()
    emitter.start()
    emitter.emit(numbered(1))
    assert not emitter.concerns("shop")
    await emitter.stop()


async def test_events_of_some_tenants_are_owed_whoever_follows() -> None:
    never = EventSettings(publish=Publish.NEVER, guaranteed=("bank",))
    emitter = Emitter(never, MemoryEvents())
    mixed = [*numbered(1), *numbered(2, "bank")]
    assert emitter.concerns("bank")
    assert not emitter.concerns("shop")
    owed = emitter.owed(mixed)
    assert [(message.queue, message.message_id) for message in owed] == [
        (GUARANTEED_EVENTS, "0"), (GUARANTEED_EVENTS, "1"),
    ]  # fmt: skip
    assert [decode_event(message.body) for message in owed] == numbered(2, "bank")
