"""Publishes on their way, without a broker: waiting, patience, what cannot be sent."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from shared.broker.amqp.publishing import Publish, Publishing, Results
from shared.broker.interface import PublishError, Refused, Unavailable, Unroutable
from tests.conformance.harness import small_topology
from tests.unit.broker_amqp.declared import Declared

PATIENCE_SECONDS = 10.0


class Wire:
    """A connection, its transport and its channel in one: it keeps what is written."""

    frame_max = 131_072
    channel_id = 1

    def __init__(self) -> None:
        self.events: dict[str, set[Callable[..., None]]] = defaultdict(set)
        self.written = b""

    @property
    def transport(self) -> Wire:
        return self

    def channel(self) -> Wire:
        return self

    def confirm_select(self) -> None:
        pass

    def keep(self, pieces: list[bytes]) -> None:
        self.written += b"".join(pieces)

    def flush(self) -> None:
        pass

    def answer(self, event: str, *arguments: Any) -> None:
        for callback in self.events[event]:
            callback(*arguments)


class Desk:
    """The work under test, with what it reported by message id."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.outcomes: dict[str, PublishError | None] = {}
        self.wire = Wire()
        self.declaration = Declared(small_topology())
        self.work = Publishing(self.loop, self._report, PATIENCE_SECONDS, self.declaration)
        self.work.opened(self.wire)

    def _report(self, results: Results) -> None:
        self.outcomes |= {publish.message_id: error for publish, error in results}

    def publish(self, *names: str, age: float = 0.0) -> None:
        publishes = [
            Publish("work", name.encode(), name, {}, self.loop.create_future()) for name in names
        ]
        for publish in publishes:
            publish.started -= age
        self.work.perform(publishes)

    async def tick(self, *, blocked: bool = False) -> None:
        self.work.tick(blocked=blocked)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def errors(self) -> dict[str, type | None]:
        return {
            name: None if error is None else type(error) for name, error in self.outcomes.items()
        }


async def test_a_confirm_ends_its_publish_and_no_other() -> None:
    desk = Desk()
    desk.publish("a", "b", "c")
    desk.wire.answer("basic_ack", 2, False)
    await desk.tick()
    assert desk.errors() == {"b": None}
    desk.wire.answer("basic_nack", 3, True)
    await desk.tick()
    assert desk.errors() == {"a": Refused, "b": None, "c": Refused}


async def test_a_returned_message_is_unroutable_though_it_is_acknowledged() -> None:
    desk = Desk()
    desk.publish("a", "b")
    returned = SimpleNamespace(properties={"message_id": "b"})
    desk.wire.answer("basic_return", None, "", "work", returned)
    desk.wire.answer("basic_ack", 2, True)
    await desk.tick()
    assert desk.errors() == {"a": None, "b": Unroutable}


async def test_what_is_published_while_blocked_goes_out_afterwards() -> None:
    desk = Desk()
    await desk.tick(blocked=True)
    desk.publish("held")
    await desk.tick(blocked=True)
    assert desk.wire.written == b""
    await desk.tick(blocked=False)
    assert b"held" in desk.wire.written
    desk.wire.answer("basic_ack", 1, False)
    await desk.tick()
    assert desk.errors() == {"held": None}


async def test_while_blocked_publishes_wait_no_longer_than_the_confirm_timeout() -> None:
    desk = Desk()
    desk.publish("sent", age=2 * PATIENCE_SECONDS)
    desk.publish("sent later")
    await desk.tick(blocked=True)
    desk.publish("held", age=2 * PATIENCE_SECONDS)
    desk.publish("held later")
    await desk.tick(blocked=True)
    assert desk.errors() == {"sent": Unavailable, "held": Unavailable}
    desk.wire.answer("basic_ack", 1, False)  # of the one that was given up
    await desk.tick(blocked=False)
    desk.wire.answer("basic_ack", 3, True)
    await desk.tick()
    assert desk.errors() == {
        "sent": Unavailable, "held": Unavailable, "sent later": None, "held later": None,
    }  # fmt: skip


async def test_a_confirm_that_does_not_come_costs_the_connection() -> None:
    desk = Desk()
    desk.publish("late", age=2 * PATIENCE_SECONDS)
    desk.publish("neighbour")
    with pytest.raises(ConnectionAbortedError):
        desk.work.tick(blocked=False)
    desk.work.lost()
    await desk.tick()
    assert desk.errors() == {"late": Unavailable, "neighbour": Unavailable}


async def test_what_was_confirmed_before_the_loss_is_stored() -> None:
    desk = Desk()
    desk.publish("confirmed", "unknown")
    desk.wire.answer("basic_ack", 1, False)
    desk.work.lost()
    await desk.tick()
    assert desk.errors() == {"confirmed": None, "unknown": Unavailable}


async def test_without_a_connection_a_publish_fails_at_once() -> None:
    desk = Desk()
    desk.work.lost()
    desk.publish("a")
    await desk.tick()
    assert desk.errors() == {"a": Unavailable}


async def test_a_message_that_cannot_be_encoded_harms_no_other() -> None:
    desk = Desk()
    too_long = "x" * 256
    desk.publish("a", too_long, "b")
    desk.wire.answer("basic_ack", 2, True)
    await desk.tick()
    assert desk.errors() == {"a": None, too_long: Refused, "b": None}


async def test_tags_start_anew_with_each_channel() -> None:
    desk = Desk()
    desk.publish("a")
    desk.work.lost()
    desk.work.opened(again := Wire())
    desk.publish("b")
    again.answer("basic_ack", 1, False)
    await desk.tick()
    assert desk.errors() == {"a": Unavailable, "b": None}
