"""Settlements on their way to the broker, against a channel that keeps its own books."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog.testing
from amqp import spec
from amqp.exceptions import NotFound, ResourceError
from hypothesis import given
from hypothesis import strategies as st

from shared.broker.amqp.consuming import Consuming
from shared.broker.amqp.settling import FRAMES, PAUSE_SECONDS, Parting
from shared.broker.amqp.subscription import (
    Cancel,
    Command,
    Settle,
    Subscribe,
    Subscription,
    Verb,
)
from tests.conformance.harness import small_topology
from tests.unit.broker_amqp.declared import Declared


class Channel:
    """The broker's side of a channel: which tags it still waits for, and what it was told."""

    def __init__(self, count: int) -> None:
        self.open = set(range(1, count + 1))
        self.acknowledged: set[int] = set()
        self.frames = 0
        self.returned: list[tuple[str, int]] = []
        self.cancelled = self.closed = self.missing = False

    def basic_qos(self, _size: int, prefetch: int, _global: bool) -> None:
        self.prefetch = prefetch

    def basic_consume(self, _queue: str, callback: Any, on_cancel: Any) -> str:
        if self.missing:
            raise NotFound("no queue")
        self.callback, self.on_cancel = callback, on_cancel
        for tag in sorted(self.open):
            callback(SimpleNamespace(delivery_info={"delivery_tag": tag}))
        return "consumer"

    def basic_cancel(self, _tag: str) -> None:
        self.cancelled = True

    def close(self) -> None:
        assert not self.open, "what is unsettled would be delivered again"
        self.closed = True

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        tags = {other for other in self.open if other <= tag} if multiple else {tag}
        assert tag in self.open, "the broker closes the channel for a tag it does not know"
        self.open -= tags
        self.acknowledged |= tags
        self.frames += 1

    def basic_reject(self, tag: int, requeue: bool) -> None:
        assert requeue
        self.open.remove(tag)
        self.returned.append(("reject", tag))

    def send_method(self, method: Any, _format: str, arguments: tuple[int, bool, bool]) -> None:
        assert (method, *arguments[1:]) == (spec.Basic.Nack, False, True)
        self.open.remove(arguments[0])
        self.returned.append(("nack", arguments[0]))


class Server:
    """A connection that opens prepared channels."""

    def __init__(self, *channels: Channel, version: str = "3.10.8") -> None:
        self.server_properties = {"version": version}
        self.channels = list(channels)

    def channel(self) -> Channel:
        return self.channels.pop(0)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with contextlib.closing(asyncio.new_event_loop()) as made:
        yield made


def subscribed(
    loop: asyncio.AbstractEventLoop, *channels: Channel
) -> tuple[Consuming, Subscription]:
    work = Consuming(loop, small_topology(), Declared(small_topology()))
    work.opened(Server(*channels))
    subscription = Subscription("work", 100, lambda _messages, _generation: None)
    work.perform([Subscribe(subscription)])
    return work, subscription


def settle(subscription: Subscription, tag: int, verb: Verb = Verb.ACK) -> Settle:
    return Settle(subscription, subscription.generation, tag, verb)


def test_a_run_from_the_oldest_delivery_on_is_one_frame(loop: asyncio.AbstractEventLoop) -> None:
    channel = Channel(10)
    work, subscription = subscribed(loop, channel)
    work.perform([settle(subscription, tag) for tag in (3, 1, 2, 7)])
    assert channel.acknowledged == {1, 2, 3, 7}
    assert channel.frames == 2


@pytest.mark.parametrize(("version", "lines"), [("3.10.8", 1), ("3.10.20", 0), ("4.1.0", 0)])
def test_a_server_that_may_stop_retries_is_named_once(
    loop: asyncio.AbstractEventLoop, version: str, lines: int
) -> None:
    work = Consuming(loop, small_topology(), Declared(small_topology()))
    with structlog.testing.capture_logs() as said:
        for _ in range(2):
            work.opened(Server(version=version))
            work.lost()
    assert [line["version"] for line in said] == [version] * lines


@given(
    st.permutations(range(1, 13)),
    st.lists(st.integers(1, 5), max_size=12),
    st.lists(st.sampled_from(list(Verb)), min_size=12, max_size=12),
)
def test_whatever_the_order_each_delivery_is_settled_as_asked_and_no_other(
    order: list[int], batches: list[int], verbs: list[Verb]
) -> None:
    channel = Channel(12)
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        work, subscription = subscribed(loop, channel)
    asked: dict[int, Verb] = {}
    for size in batches:
        batch, order = order[:size], order[size:]
        commands: list[Command] = [settle(subscription, tag, verbs[tag - 1]) for tag in batch]
        asked |= {tag: verbs[tag - 1] for tag in batch}
        work.perform(commands)
        assert channel.acknowledged == {tag for tag, verb in asked.items() if verb is Verb.ACK}
        assert channel.open == set(range(1, 13)) - asked.keys()
    requeued = {tag for kind, tag in channel.returned if kind == "nack"}
    assert requeued == {tag for tag, verb in asked.items() if verb is Verb.REQUEUE}


def test_a_settlement_of_an_older_channel_settles_nothing(loop: asyncio.AbstractEventLoop) -> None:
    first, second = Channel(3), Channel(3)
    work, subscription = subscribed(loop, first)
    stale = [settle(subscription, tag, verb) for tag, verb in enumerate(Verb, start=1)]
    work.lost()
    work.perform(stale)
    assert (first.open, first.returned) == ({1, 2, 3}, [])
    work.opened(Server(second))
    work.perform(stale)
    assert (second.open, second.returned) == ({1, 2, 3}, [])
    work.perform([settle(subscription, 2)])
    assert second.acknowledged == {2}


def test_a_tag_that_was_settled_is_not_settled_again(loop: asyncio.AbstractEventLoop) -> None:
    channel = Channel(2)
    work, subscription = subscribed(loop, channel)
    work.perform([settle(subscription, 1)])
    work.perform([settle(subscription, 1), settle(subscription, 1, Verb.FAILED)])
    assert (channel.frames, channel.returned) == (1, [])


def test_the_deliveries_of_a_round_are_handed_over_at_once_and_once(
    loop: asyncio.AbstractEventLoop,
) -> None:
    batches: list[tuple[int, int]] = []
    work, subscription = subscribed(loop, Channel(5))
    subscription.deliver = lambda messages, generation: batches.append((len(messages), generation))
    work.tick(blocked=False)
    work.tick(blocked=False)
    loop.run_until_complete(asyncio.sleep(0))
    assert batches == [(5, subscription.generation)]


def stop(loop: asyncio.AbstractEventLoop, work: Consuming, subscription: Subscription) -> None:
    done: asyncio.Future[None] = loop.create_future()
    work.perform([Cancel(subscription, done)])
    loop.run_until_complete(asyncio.wait_for(done, 5))


def test_the_channel_of_a_stopped_consumer_is_closed_with_its_last_settlement(
    loop: asyncio.AbstractEventLoop,
) -> None:
    channel = Channel(3)
    work, subscription = subscribed(loop, channel)
    stop(loop, work, subscription)
    assert (channel.cancelled, channel.closed) == (True, False)
    work.perform([settle(subscription, 1), settle(subscription, 2, Verb.FAILED)])
    assert not channel.closed
    late = settle(subscription, 3)
    work.perform([late])
    assert channel.closed
    work.perform([late])
    assert channel.acknowledged == {1, 3}


SOFT_LIMIT = 32
"""Settlements that the broker loses none of when it has applied none and the channel closes."""


def test_a_stopped_consumer_writes_few_frames_however_its_deliveries_end(
    loop: asyncio.AbstractEventLoop,
) -> None:
    channel = Channel(200)
    work, subscription = subscribed(loop, channel)
    stop(loop, work, subscription)
    for tag in range(200, 0, -1):
        work.perform([settle(subscription, tag)])
        work.tick(blocked=False)
    assert channel.closed
    assert channel.frames < SOFT_LIMIT


def test_a_delivery_that_was_acknowledged_and_waits_is_not_given_back(
    loop: asyncio.AbstractEventLoop,
) -> None:
    channel = Channel(20)
    work, subscription = subscribed(loop, channel)
    stop(loop, work, subscription)
    work.perform([settle(subscription, tag) for tag in range(2, 21)])
    work.perform([settle(subscription, tag, Verb.FAILED) for tag in range(1, 21)])
    assert channel.returned == [("reject", 1)]
    assert channel.acknowledged == set(range(2, 21))


def test_what_waits_is_written_after_a_pause_while_one_delivery_takes_its_time() -> None:
    channel = Channel(2 * FRAMES + 1)
    subscription = Subscription("work", 100, lambda _messages, _generation: None)
    subscription.begin(channel, 1)
    subscription.unsettled.update(dict.fromkeys(channel.open))
    subscription.acknowledged.update(range(2, 2 * FRAMES + 2))
    parting = Parting()
    parting.acknowledge(subscription, 100.0)
    assert (channel.frames, parting.due(100.0)) == (FRAMES, [])
    parting.acknowledge(subscription, 100.0)
    assert channel.frames == FRAMES
    assert parting.due(100.0 + PAUSE_SECONDS) == [subscription]
    parting.acknowledge(subscription, 100.0 + PAUSE_SECONDS)
    assert channel.open == {1}


def test_who_must_leave_writes_all_that_waits_with_pauses(
    loop: asyncio.AbstractEventLoop,
) -> None:
    channel = Channel(4 * FRAMES)
    work, subscription = subscribed(loop, channel)
    stop(loop, work, subscription)
    work.perform([settle(subscription, tag) for tag in range(2, 4 * FRAMES + 1)])
    frames = [channel.frames]
    for pause in work.leave():
        assert pause > 0
        frames.append(channel.frames)
    assert channel.open == {1}
    assert max(after - before for before, after in itertools.pairwise(frames)) <= FRAMES


def test_a_consumer_that_stopped_is_not_begun_on_the_next_connection(
    loop: asyncio.AbstractEventLoop,
) -> None:
    work, subscription = subscribed(loop, Channel(2))
    kept = Subscription("other", 10, lambda _messages, _generation: None)
    stop(loop, work, subscription)
    work.lost()
    work.perform([Subscribe(kept)])
    server = Server(Channel(0), Channel(0))
    work.opened(server)
    assert (subscription.generation, len(server.channels)) == (0, 1)
    assert kept.generation > 0


def test_what_has_come_when_a_consumer_stops_is_handed_over_before_it_ends(
    loop: asyncio.AbstractEventLoop,
) -> None:
    seen: list[int] = []
    work, subscription = subscribed(loop, Channel(4))
    subscription.deliver = lambda messages, _generation: seen.append(len(messages))
    stop(loop, work, subscription)
    assert seen == [4]


def test_a_missing_queue_costs_neither_the_connection_nor_a_round_trip_each_round(
    loop: asyncio.AbstractEventLoop,
) -> None:
    missing, there = Channel(0), Channel(1)
    missing.missing = True
    declared = Declared(small_topology())
    work = Consuming(loop, small_topology(), declared)
    work.opened(Server(missing, there))
    absent = Subscription("absent", 10, lambda _messages, _generation: None)
    other = Subscription("work", 10, lambda _messages, _generation: None)
    work.perform([Subscribe(absent), Subscribe(other)])
    work.tick(blocked=False)
    assert (absent.generation, other.generation > 0) == (0, True)
    assert declared.renewed == 0
    stop(loop, work, absent)
    assert missing.closed


class Exhausted(Declared):
    """There is no channel to declare through."""

    def renew(self, connection: Any) -> None:
        super().renew(connection)
        raise ResourceError("No free channel ids")


def test_without_a_free_channel_those_that_have_one_go_on(
    loop: asyncio.AbstractEventLoop,
) -> None:
    missing, there = Channel(0), Channel(1)
    missing.missing = True
    declared = Exhausted(small_topology())
    work = Consuming(loop, small_topology(), declared)
    work.opened(Server(missing, there))
    waits = Subscription("work", 10, lambda _messages, _generation: None)
    served = Subscription("other", 10, lambda _messages, _generation: None)
    work.perform([Subscribe(waits), Subscribe(served)])
    while declared.renewed < 2:  # the thread ticks after each of its waits
        loop.run_until_complete(asyncio.sleep(0.02))
        work.tick(blocked=False)
    assert (waits.generation, there.closed) == (0, False)
    work.perform([settle(served, 1)])
    assert there.acknowledged == {1}


class Late(Declared):
    """While it declares anew, one more delivery of the channel that is given up comes in."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(small_topology())
        self._channel = channel

    def renew(self, connection: Any) -> None:
        super().renew(connection)
        self._channel.open = {1}
        self._channel.basic_consume("work", self._channel.callback, None)
        self._channel.open = set()


def test_a_delivery_of_a_channel_that_is_given_up_is_not_taken_for_one_of_the_next(
    loop: asyncio.AbstractEventLoop,
) -> None:
    old, new = Channel(0), Channel(0)
    seen: list[Any] = []
    declared = Late(old)
    work = Consuming(loop, small_topology(), declared)
    work.opened(Server(old, new))
    subscription = Subscription("work", 10, lambda messages, _generation: seen.extend(messages))
    work.perform([Subscribe(subscription)])
    before = subscription.generation
    old.on_cancel("consumer")
    while not declared.renewed:  # the thread ticks after each of its waits
        loop.run_until_complete(asyncio.sleep(0.02))
        work.tick(blocked=False)
    work.tick(blocked=False)
    loop.run_until_complete(asyncio.sleep(0))
    assert (declared.renewed, old.closed, subscription.generation > before) == (1, True, True)
    assert (seen, dict(subscription.unsettled)) == ([], {})


@pytest.mark.parametrize(
    ("version", "counted"),
    [("3.10.8", True), ("4.2.1", True), ("4.3.0", False), ("4.10.0", False), ("5.0.0-rc.1", False)],
)
def test_from_4_3_on_a_requeue_is_not_counted(
    loop: asyncio.AbstractEventLoop, version: str, counted: bool
) -> None:
    work = Consuming(loop, small_topology(), Declared(small_topology()))
    work.opened(Server(version=version))
    assert work.counts_nacks is counted
