"""The embedded broker: durable queues in one SQLite file, shared by the processes of one host.

This module is the loop's side: it turns calls into batches for the writer thread and outcomes
into futures and deliveries. What is promised, and where it is kept:

- A publish ends after the commit that stored it, and that commit waits for the disk
  (`engine.run`, `store.begin`).
- A forward is atomic: successors in, predecessor out, one commit. A crash makes no duplicate.
- A lease ends with its process and never by time: `owners` says how. So there is nothing to renew,
  and a slow handler is never overtaken.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from shared import metrics
from shared.broker.embedded.consumer import EmbeddedConsumer
from shared.broker.embedded.engine import Engine
from shared.broker.embedded.events import SocketEvents
from shared.broker.embedded.members import Members
from shared.broker.embedded.records import (
    Batch,
    Leave,
    Outcome,
    Post,
    Row,
    Subscription,
    Survey,
    encode_meta,
)
from shared.broker.embedded.writer import Writer
from shared.broker.interface import (
    Consumer,
    Handler,
    Listener,
    Outgoing,
    PublishError,
    Refused,
    Unavailable,
    Unroutable,
)
from shared.broker.topology import LANE_PREFIX, Topology
from shared.settings.load import ConfigError

SWITCH_SECONDS = 0.0005
"""The interpreter's switch interval beside a writer thread.

Each step of SQLite gives the interpreter lock up and gets it back after this long when the loop
is busy; with Python's default of 5 ms a commit of twenty messages takes a quarter of a second.
"""
SOMETIME_SECONDS = 0.002

_observe_publish = metrics.publish_seconds.observe
_failures = {
    Unavailable: metrics.publish_failures.labels("unavailable"),
    Refused: metrics.publish_failures.labels("refused"),
    Unroutable: metrics.publish_failures.labels("unroutable"),
}


class EmbeddedBroker:
    """See `shared.broker.interface.Broker`. `clock` gives epoch seconds, for delays only."""

    def __init__(
        self, directory: str, topology: Topology, clock: Callable[[], float] = time.time
    ) -> None:
        self._directory = Path(directory)
        self._topology = topology
        self._names = topology.names()
        self._members = Members(self._directory / "members")
        self.events = SocketEvents(self._directory / "events")
        self._clock = clock
        self._writer: Writer | None = None
        self._closing = False
        self._consumers: dict[Subscription, EmbeddedConsumer] = {}
        self._held_back: list[asyncio.Future[None]] = []
        self._flush_at_end = False
        self._flush_later: asyncio.TimerHandle | None = None
        self.batch = Batch()

    @property
    def usable(self) -> bool:
        """The store is open and the last write succeeded."""
        return self._writer is not None and self._writer.trouble is None and not self._closing

    @property
    def blocked(self) -> bool:
        """The disk is full; ends with the first probe that can be written."""
        return self._writer is not None and isinstance(self._writer.trouble, Refused)

    async def start(self) -> None:
        """Open or create the store. Raises `ConfigError` if that cannot be."""
        sys.setswitchinterval(min(SWITCH_SECONDS, sys.getswitchinterval()))
        try:
            engine = await asyncio.to_thread(Engine, self._directory, self._topology)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"broker.url: {self._directory}: {error}") from error
        loop = asyncio.get_running_loop()
        self._writer = Writer(engine, loop, self._clock, self._report)
        self._writer.start()
        metrics.broker_usable.set(1)
        self._flush()

    async def wait_usable(self, timeout: float) -> None:
        """Return when usable; raises `Unavailable` after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not self.usable:  # noqa: ASYNC110 - rare, and the writer sends no event
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise Unavailable(f"not usable after {timeout} s") from None

    def publish(self, message: Outgoing) -> asyncio.Future[None]:
        """Ends when the message is stored durably. Raises ValueError for an undeclared delay."""
        done = asyncio.get_running_loop().create_future()
        try:
            row = self.row(message)
            self._check_writable()
        except PublishError as error:
            self._fail(done, error)
            return done
        self.batch.posts.append(Post([row], done, time.perf_counter()))
        self.soon()
        return done

    def _check_writable(self) -> None:
        if self._closing or self._writer is None:
            raise Unavailable("the broker is closed" if self._closing else "not started")
        trouble = self._writer.trouble
        if trouble is not None:
            raise type(trouble)(*trouble.args)

    def row(self, message: Outgoing) -> Row:
        """What to store for a message. Raises `Unroutable`, and ValueError as above."""
        queue = message.queue
        if queue not in self._names:
            raise Unroutable(f"no queue {queue}")
        meta = encode_meta(message.message_id, message.headers)
        if message.delay_ms is None:
            return Row(queue, meta, message.body)
        step = self._topology.delayed_through(queue, message.delay_ms)
        return Row(queue, meta, message.body, step, self._clock() + message.delay_ms / 1000)

    def consume(self, queue: str, prefetch: int, handler: Handler) -> Consumer:
        """Deliver messages of `queue`, at most `prefetch` unsettled at a time, until stopped."""
        consumer = EmbeddedConsumer(queue, prefetch, handler, self)
        self._consumers[consumer.subscription] = consumer
        return consumer

    async def leave(self, subscription: Subscription) -> None:
        """See `Outbox.leave`."""
        self._consumers.pop(subscription, None)
        if self._closing or self._writer is None:
            return
        leave = Leave(subscription, asyncio.get_running_loop().create_future())
        self.batch.leaves.append(leave)
        self.soon()
        await leave.done

    def limit(self, queue: str) -> int | None:
        """How many deliveries of a message of `queue` may fail."""
        declared = self._topology.find(queue)
        return None if declared is None else declared.delivery_limit

    def hold_back(self, future: asyncio.Future[None], error: Exception) -> None:
        """Keep a forward that has nowhere to go: its predecessor stays ours until the close."""
        self._failed(error)
        self._held_back.append(future)

    @property
    def hearing(self) -> bool:
        """Whether announcements of others would reach us now."""
        return self._members.hearing

    def announce(self, body: bytes) -> None:
        """Tell every process that listens now. Raises ValueError for more than 200,000 octets."""
        if not self._closing:
            self._members.announce(body)

    def listen(self, handler: Callable[[bytes], None]) -> Listener:
        """Call `handler` on the loop for each announcement from now on, until stopped."""
        return self._members.listen(handler)

    async def left_over(self) -> Sequence[str]:
        """Lane queues that former plans declared and this topology lacks. Raises `Unavailable`."""
        queues = (await self._survey()).queues.difference(self._names)
        return sorted(queue for queue in queues if queue.startswith(LANE_PREFIX))

    async def depths(self, queues: Collection[str] | None = None) -> Mapping[str, int]:
        """Messages nobody holds, by queue; delayed ones by step. Raises `Unavailable`."""
        found = (await self._survey()).depths
        if queues is None:
            return dict.fromkeys(sorted(self._names), 0) | found
        return {queue: found.get(queue, 0) for queue in queues}

    async def _survey(self) -> Survey:
        self._check_open()
        question: asyncio.Future[Survey] = asyncio.get_running_loop().create_future()
        self.batch.questions.append(question)
        self.soon()
        return await question

    def _check_open(self) -> None:
        if self._closing or self._writer is None:
            raise Unavailable("the broker is not open")

    async def close(self) -> None:
        """Commit what was asked for, give everything else back uncounted, leave the store."""
        if self._closing:
            return
        self._members.close()
        await self.events.close()
        await asyncio.gather(*(consumer.stop() for consumer in tuple(self._consumers.values())))
        self._closing = True
        if self._writer is None:
            return
        metrics.broker_usable.set(0)
        farewell = asyncio.get_running_loop().create_future()
        self.batch.farewell = farewell
        self._flush()
        await farewell
        for future in self._held_back:
            _end(future, Unavailable("the broker is closed"))

    def soon(self) -> None:
        """Hand the batch over at the end of this turn of the loop."""
        if not self._flush_at_end:
            self._flush_at_end = True
            asyncio.get_running_loop().call_soon(self._flush)

    def sometime(self) -> None:
        """Hand the batch over within milliseconds: larger batches, and nobody waits."""
        if not self._flush_at_end and self._flush_later is None:
            loop = asyncio.get_running_loop()
            self._flush_later = loop.call_later(SOMETIME_SECONDS, self._flush)

    def _flush(self) -> None:
        self._flush_at_end = False
        if self._flush_later is not None:
            self._flush_later.cancel()
            self._flush_later = None
        if self._writer is None and not self._closing:
            return  # `start` flushes what came before it
        batch, self.batch = self.batch, Batch()
        if self._writer is None or (self._closing and batch.farewell is None):
            self._drop(batch)
        else:
            self._writer.hand_over(batch)

    def _drop(self, batch: Batch) -> None:
        # After the close the messages are back in their queues: verbs come too late.
        for future in batch.waiting():
            _end(future, Unavailable("the broker is closed"))
        for leave in batch.leaves:
            _end(leave.done)

    def _report(self, outcome: Outcome) -> None:
        now = time.perf_counter()
        for post in outcome.posts:
            _observe_publish(now - post.started)
            _end(post.done)
        for park in outcome.parks:
            metrics.parked_messages.labels(park.reason.value).inc()
            _end(park.done)
        for post, error in outcome.failed:
            self._fail(post.done, type(error)(*error.args))
        for subscription, leased in outcome.leases:
            subscription.deliver(leased)

    def _fail(self, future: asyncio.Future[None], error: PublishError) -> None:
        self._failed(error)
        _end(future, error)

    def _failed(self, error: Exception) -> None:
        for kind, counter in _failures.items():
            if isinstance(error, kind):
                counter.inc()


def _end(future: asyncio.Future[None], error: Exception | None = None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
