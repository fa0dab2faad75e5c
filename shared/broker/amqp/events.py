"""What is told of the mail over RabbitMQ: a topic exchange, on a connection of its own.

Its own, so that mail never waits for it. Nothing is confirmed: a batch is handed over when the one
before it has been written, and what is under way when the connection ends is lost, and counted.

An exchange does not tell who listens. So followers say once in a round that they do, on a fanout
exchange, and who hears none of them for a while need not tell anything.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from amqp import spec
from amqp.basic_message import Message

from shared import metrics
from shared.broker.amqp.connection import LinkOptions
from shared.broker.amqp.handover import tell
from shared.broker.amqp.link import Link
from shared.broker.interface import Follow, Told
from shared.broker.topology import EVENTS, FOLLOWERS
from shared.events.codec import count_lines
from shared.logs import get_logger

FOLLOWED_SECONDS = 5.0
"""How long one word of a follower holds."""
SAYING_SECONDS = 1.0
MOST_BODIES = 50
"""That are handed to a follower before it is done with them."""
LONGEST_QUEUE_BYTES = 64 << 20
"""Of a follower that is slow or, if it has a name, away; the oldest are dropped first."""
NAMED_EXPIRES_MS = 7 * 86_400_000
"""A queue with a name goes when nobody has followed for so long."""
CONTENT_TYPE = "application/x-ndjson"
_TRANSIENT = 1
_lost = metrics.dropped_events.labels("lost").inc


@dataclass(slots=True, eq=False)
class Following:
    """One who follows; `bound` while its queue is there, `tag` is its consumer's."""

    patterns: tuple[str, ...]
    handler: Follow
    name: str
    bound: bool = False
    tag: str = field(default_factory=map("follower-{}".format, itertools.count()).__next__)


@dataclass(frozen=True, slots=True)
class Scatter:
    """Tell these."""

    told: Sequence[Told]


@dataclass(frozen=True, slots=True)
class Begin:
    """Follow."""

    following: Following


@dataclass(frozen=True, slots=True)
class End:
    """Follow no more."""

    following: Following


@dataclass(frozen=True, slots=True)
class Done:
    """A body was handled; `generation` is that of the channel that brought it."""

    generation: int
    tag: int


Command = Scatter | Begin | End | Done
Arrived = tuple[Following, bytes, int, int]


class Telling:
    """The work of the link. Runs on its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, line: AmqpEvents) -> None:
        self._loop = loop
        self._line = line
        self._connection: Any = None
        self._channel: Any = None
        self._blocked = False
        self._generation = 0
        self._followings: dict[Following, None] = {}
        self._arrived: list[Arrived] = []
        self._under_way = 0
        self._say_at = 0.0

    def opened(self, connection: Any) -> None:
        """See `Work.opened`."""
        channel = connection.channel()
        channel.auto_decode = False
        channel.exchange_declare(EVENTS, "topic", durable=True, auto_delete=False)
        channel.exchange_declare(FOLLOWERS, "fanout", durable=True, auto_delete=False)
        channel.basic_qos(0, MOST_BODIES, False)
        arguments = {"x-max-length": 10}
        queue = channel.queue_declare("", exclusive=True, auto_delete=True, arguments=arguments)
        channel.queue_bind(queue.queue, FOLLOWERS)
        channel.basic_consume(queue.queue, no_ack=True, callback=self._followed)
        self._connection, self._channel = connection, channel
        self._generation += 1
        self._say_at = 0.0
        for following in self._followings:
            self._begin(following)

    def _followed(self, _message: Any) -> None:
        self._line.followed_until = time.monotonic() + FOLLOWED_SECONDS

    def perform(self, commands: Sequence[Command]) -> None:
        """See `Work.perform`."""
        for command in commands:
            match command:
                case Scatter(told):
                    self._tell(told)
                case Begin(following):
                    self._followings[following] = None
                    self._begin(following)
                case End(following):
                    self._end(following)
                case Done(generation, tag) if generation == self._generation and self._channel:
                    self._channel.basic_ack(tag)

    def _tell(self, told: Sequence[Told]) -> None:
        self._under_way = len(told)
        if self._channel is None or self._blocked:
            self._lose()
            return
        for key, body in told:
            message = Message(body, delivery_mode=_TRANSIENT, content_type=CONTENT_TYPE)
            arguments = (0, EVENTS, key, False, False)
            self._channel.send_method(spec.Basic.Publish, "Bssbb", arguments, message)

    def _lose(self) -> None:
        """What is under way is lost."""
        lost, self._under_way = self._under_way, 0
        if lost:
            tell(self._loop, self._line.lost)

    def _begin(self, following: Following) -> None:
        if (channel := self._channel) is None:
            return
        arguments: dict[str, Any] = {"x-max-length-bytes": LONGEST_QUEUE_BYTES}
        name = ""
        if following.name:
            name = f"{EVENTS}.{following.name}"
            arguments["x-expires"] = NAMED_EXPIRES_MS
            channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
        else:
            declared = channel.queue_declare("", exclusive=True, arguments=arguments)
            name = declared.queue
        for pattern in following.patterns:
            channel.queue_bind(name, EVENTS, pattern)
        callback = partial(self._received, following)
        channel.basic_consume(
            name, consumer_tag=following.tag, callback=callback, on_cancel=self._cancelled
        )
        self._say_at = 0.0
        following.bound = True

    def _received(self, following: Following, message: Any) -> None:
        body = message.body or b""  # py-amqp gives text for an empty body
        tag = message.delivery_info["delivery_tag"]
        self._arrived.append((following, body, self._generation, tag))

    def _cancelled(self, _tag: str) -> None:
        raise ConnectionAbortedError("the queue of a follower is gone")

    def _end(self, following: Following) -> None:
        self._followings.pop(following, None)
        if self._channel is not None:
            self._channel.basic_cancel(following.tag)

    def tick(self, *, blocked: bool) -> None:
        """See `Work.tick`."""
        self._blocked = blocked
        if self._followings and self._channel is not None and not blocked:
            self._say()
        if self._arrived:
            arrived, self._arrived = self._arrived, []
            tell(self._loop, self._line.hand_out, arrived)
        if self._under_way and not self._connection.transport.has_unsent():
            self._under_way = 0
            tell(self._loop, self._line.told)

    def _say(self) -> None:
        """Say that somebody follows."""
        now = time.monotonic()
        if now >= self._say_at:
            self._say_at = now + SAYING_SECONDS
            arguments = (0, FOLLOWERS, "", False, False)
            message = Message(b"", delivery_mode=_TRANSIENT)
            self._channel.send_method(spec.Basic.Publish, "Bssbb", arguments, message)

    def leave(self) -> Iterator[float]:
        """See `Work.leave`. Nothing is held back."""
        return iter(())

    def lost(self) -> None:
        """See `Work.lost`."""
        self._channel = self._connection = None
        self._arrived = []
        for following in self._followings:
            following.bound = False
        self._lose()


class AmqpListener:
    """See `shared.broker.interface.Listener`."""

    def __init__(self, line: AmqpEvents, following: Following) -> None:
        self._line = line
        self._following = following

    async def stop(self) -> None:
        """No further call of the handler will come."""
        self._line.end(self._following)


class AmqpEvents:
    """The loop's side; see `shared.broker.interface.EventLine`.

    `followed_until` is in monotonic seconds, written on the thread.
    """

    def __init__(self, options: LinkOptions) -> None:
        self._options = options
        self._link: Link[Command] | None = None
        self._followings: dict[Following, None] = {}
        self._busy = 0
        self._closed = False
        self.followed_until = 0.0

    @property
    def followed(self) -> bool:
        """See `EventLine.followed`."""
        self._opened()
        return time.monotonic() < self.followed_until

    @property
    def hearing(self) -> bool:
        """See `EventLine.hearing`."""
        return bool(self._followings) and all(one.bound for one in self._followings)

    def scatter(self, told: Sequence[Told]) -> bool:
        """See `EventLine.scatter`."""
        link = self._opened()
        if link is None or self._busy or not link.connected or link.blocked:
            return False
        self._busy = count_lines(told)
        link.commands.submit(Scatter(told))
        return True

    def told(self) -> None:
        """What was to be told is written."""
        self._busy = 0

    def lost(self) -> None:
        """What was to be told is lost."""
        _lost(self._busy)
        self._busy = 0

    def follow(self, patterns: Sequence[str], handler: Follow, *, name: str = "") -> AmqpListener:
        """See `EventLine.follow`."""
        following = Following(tuple(patterns), handler, name)
        if link := self._opened():
            self._followings[following] = None
            link.commands.submit(Begin(following))
        return AmqpListener(self, following)

    def end(self, following: Following) -> None:
        """See `Listener.stop`."""
        if following in self._followings and self._link is not None:
            del self._followings[following]
            self._link.commands.submit(End(following))

    def hand_out(self, arrived: Sequence[Arrived]) -> None:
        """Give what arrived to those who follow."""
        for following, body, generation, tag in arrived:
            if following in self._followings and self._link is not None:
                try:
                    following.handler(body)
                except Exception:
                    get_logger().exception("a follower failed")
                self._link.commands.submit(Done(generation, tag))

    def _opened(self) -> Link[Command] | None:
        if self._link is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._link = Link(self._options, Telling(loop, self), loop)
            self._link.start()
        return self._link

    async def close(self, timeout: float = 2.0) -> None:
        """See `EventLine.close`."""
        self._followings.clear()
        self._closed = True
        link, self._link = self._link, None
        if link is not None:
            await link.stop(timeout)
