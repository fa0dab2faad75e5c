"""A broker in memory: the whole interface, no disk, no threads, and faults on request.

A publish is confirmed on the next turn of the loop, unless told otherwise:

    broker.fail(Refused("disk full"))   # every publish fails, every forward waits ...
    broker.stall()                      # confirms are held back ...
    broker.resume()                     # ... until now
    broker.block()                      # the broker asks publishers to wait, until unblock()
    broker.elapse()                     # every delay is over
    other = broker.beside()             # another process on the same queues

`published` keeps everything that was confirmed, in order, also after it was consumed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from shared.broker.interface import (
    Consumer,
    Handler,
    Listener,
    Outgoing,
    ParkReason,
    PublishError,
    Unavailable,
    Unroutable,
)
from shared.broker.parking import parking_headers
from shared.broker.topology import DELIVERY_LIMIT, PARKED, Topology, build_topology
from tests.support.memory_events import MemoryEvents, MemoryListener


@dataclass(slots=True)
class Stored:
    """A message in a queue, with its count of failed deliveries."""

    message: Outgoing
    attempts: int = 0


class MemoryDelivery:
    """See `shared.broker.interface.Delivery`."""

    def __init__(self, broker: MemoryBroker, consumer: MemoryConsumer, stored: Stored) -> None:
        message = stored.message
        self.queue = message.queue
        self.body = message.body
        self.message_id = message.message_id
        self.headers: Mapping[str, str] = message.headers
        self.attempts = stored.attempts
        self._stored = stored
        self._broker = broker
        self._consumer = consumer
        self.settled = False

    def ack(self) -> None:
        self._settle()

    def release(self) -> None:
        if self._settle():
            self._broker.put_back(self._stored)

    def failed(self) -> None:
        if self.attempts >= DELIVERY_LIMIT:
            self.reject(ParkReason.DELIVERY_LIMIT)
        elif self._settle():
            self._stored.attempts += 1
            self._broker.put_back(self._stored)

    def reject(self, reason: ParkReason, detail: str = "") -> asyncio.Future[None]:
        headers = parking_headers(self.headers, self.queue, reason, detail)
        return self.forward([Outgoing(PARKED, self.body, self.message_id, headers=headers)])

    def forward(
        self, successors: Sequence[Outgoing], *, lasting: bool = True
    ) -> asyncio.Future[None]:
        done = asyncio.get_running_loop().create_future()
        if self.settled:
            done.set_result(None)
            return done
        self._broker.forward(successors, done, self._settle)
        return done

    def _settle(self) -> bool:
        """Whether this was the first verb."""
        if self.settled:
            return False
        self.settled = True
        self._consumer.settled(self)
        return True


class MemoryConsumer:
    """See `shared.broker.interface.Consumer`."""

    def __init__(self, broker: MemoryBroker, queue: str, prefetch: int, handler: Handler) -> None:
        self.queue = queue
        self._broker = broker
        self._prefetch = prefetch
        self._handler = handler
        self._held: set[MemoryDelivery] = set()
        self._stopped = False

    @property
    def wants_more(self) -> bool:
        return not self._stopped and len(self._held) < self._prefetch

    def hand_out(self, stored: Stored) -> None:
        delivery = MemoryDelivery(self._broker, self, stored)
        self._held.add(delivery)
        try:
            self._handler(delivery)
        except Exception:
            delivery.failed()

    def settled(self, delivery: MemoryDelivery) -> None:
        self._held.discard(delivery)
        self._broker.soon()

    def give_back(self) -> None:
        for delivery in tuple(self._held):
            delivery.release()

    async def stop(self) -> None:
        self._stopped = True
        self._broker.left(self)


@dataclass(slots=True)
class Shared:
    """What all brokers beside each other have in common."""

    published: list[Outgoing] = field(default_factory=list)
    queues: defaultdict[str, deque[Stored]] = field(default_factory=lambda: defaultdict(deque))
    delayed: defaultdict[str, deque[Stored]] = field(default_factory=lambda: defaultdict(deque))
    consumers: list[MemoryConsumer] = field(default_factory=list)
    """Those that are not stopped; the first of a single active queue is served."""
    listeners: list[MemoryListener] = field(default_factory=list)
    lanes: set[str] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Pending:
    """Messages to store together once confirms flow; a forward settles its predecessor then."""

    messages: Sequence[Outgoing]
    done: asyncio.Future[None]
    settle: Callable[[], bool] | None = None


class MemoryBroker:
    """See `shared.broker.interface.Broker`."""

    def __init__(self, topology: Topology | None = None, shared: Shared | None = None) -> None:
        self.topology = topology or build_topology([1000], {"default": 8})
        self._shared = shared or Shared()
        self._shared.lanes |= self.topology.lanes()
        self.published = self._shared.published
        self.events = MemoryEvents()
        self._trouble: PublishError | None = None
        self._queues = self._shared.queues
        self._delayed = self._shared.delayed
        self._consumers: list[MemoryConsumer] = []
        self._listeners: list[MemoryListener] = []
        self._pending: list[_Pending] = []
        self._pump_scheduled = False
        self._stalled = False
        self._blocked = False
        self._closed = False
        self._changed = self._shared.changed

    def beside(self, topology: Topology | None = None) -> MemoryBroker:
        """Another broker on the same queues, as in another process."""
        return MemoryBroker(topology or self.topology, self._shared)

    @property
    def usable(self) -> bool:
        return not self._blocked and not self._closed

    @property
    def blocked(self) -> bool:
        return self._blocked

    @property
    def hearing(self) -> bool:
        listening = any(listener in self._shared.listeners for listener in self._listeners)
        return listening and self.usable

    async def start(self) -> None:
        self._closed = False

    async def wait_usable(self, timeout: float) -> None:
        if not self.usable:
            raise Unavailable(f"not usable after {timeout} s")

    def publish(self, message: Outgoing) -> asyncio.Future[None]:
        done = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending([message], done))
        self.soon()
        return done

    def forward(
        self, successors: Sequence[Outgoing], done: asyncio.Future[None], settle: Callable[[], bool]
    ) -> None:
        """Store `successors`, then settle; what cannot be stored now is tried again."""
        self._pending.append(_Pending(successors, done, settle))
        self.soon()

    def consume(self, queue: str, prefetch: int, handler: Handler) -> Consumer:
        consumer = MemoryConsumer(self, queue, prefetch, handler)
        self._consumers.append(consumer)
        self._shared.consumers.append(consumer)
        self.soon()
        return consumer

    def announce(self, body: bytes) -> None:
        if self.usable:
            for listener in self._shared.listeners:
                asyncio.get_running_loop().call_soon(listener.hear, body)

    def listen(self, handler: Callable[[bytes], None]) -> Listener:
        listener = MemoryListener(handler, self._shared.listeners)
        self._listeners.append(listener)
        return listener

    async def left_over(self) -> Sequence[str]:
        return sorted(self._shared.lanes - self.topology.names())

    async def depths(self, queues: Collection[str] | None = None) -> Mapping[str, int]:
        waiting = (*self._queues.items(), *self._delayed.items())
        found = {name: len(messages) for name, messages in waiting}
        if queues is None:
            return dict.fromkeys(self.topology.names(), 0) | found
        return {queue: found.get(queue, 0) for queue in queues}

    async def close(self) -> None:
        self._pump()
        self._closed = True
        for listener in self._listeners:
            await listener.stop()
        for consumer in self._consumers:
            await consumer.stop()
            consumer.give_back()
        for pending in self._pending:
            if not pending.done.done():
                pending.done.set_exception(Unavailable("closed"))
        self._pending.clear()

    # What tests do to it.

    def fail(self, error: PublishError) -> None:
        """Answer every publish with this error; forwards wait."""
        self._trouble = error

    def stall(self) -> None:
        """Hold confirms back."""
        self._stalled = True

    def resume(self) -> None:
        """End `fail` and `stall`."""
        self._trouble = None
        self._stalled = False
        self.soon()

    def block(self) -> None:
        """Ask publishers to wait."""
        self._blocked = True

    def unblock(self) -> None:
        """Publishers may go on."""
        self._blocked = False

    def elapse(self) -> None:
        """End every delay: delayed messages become visible in their queues."""
        for step in self._delayed.values():
            while step:
                self.put_back(step.popleft())

    def waiting(self, queue: str) -> list[Outgoing]:
        """The visible messages of a queue that no consumer holds."""
        return [stored.message for stored in self._queues[queue]]

    def delayed(self) -> list[Outgoing]:
        """The messages whose delay is not over."""
        return [stored.message for step in self._delayed.values() for stored in step]

    def published_to(self, queue: str) -> list[Outgoing]:
        """Everything confirmed for one queue so far, in order."""
        return [message for message in self.published if message.queue == queue]

    async def wait_published(self, count: int, timeout: float = 5.0) -> list[Outgoing]:
        """All confirmed messages once there are `count`. TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while len(self.published) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.published

    # Its inside.

    def put_back(self, stored: Stored) -> None:
        """Make a message visible at the end of its queue."""
        self._queues[stored.message.queue].append(stored)
        self.soon()

    def left(self, consumer: MemoryConsumer) -> None:
        """Serve it no more."""
        if consumer in self._shared.consumers:
            self._shared.consumers.remove(consumer)
        self.soon()

    def soon(self) -> None:
        """Confirm and deliver on the next turn of the loop."""
        if not self._pump_scheduled:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_scheduled = False
        if self._closed:
            return
        if not self._stalled:
            pending, self._pending = self._pending, []
            for one in pending:
                self._confirm(one)
        self._deliver()
        self._changed.set()

    def _confirm(self, pending: _Pending) -> None:
        error = self._error(pending.messages)
        if error is not None:
            self._unconfirmed(pending, error)
            return
        for message in pending.messages:
            self._store(message)
        if pending.settle is not None:
            pending.settle()
        if not pending.done.done():
            pending.done.set_result(None)

    def _unconfirmed(self, pending: _Pending, error: PublishError) -> None:
        if pending.settle is not None:
            self._pending.append(pending)
        elif not pending.done.done():
            pending.done.set_exception(error)

    def _error(self, messages: Sequence[Outgoing]) -> PublishError | None:
        if self._trouble is not None:
            return type(self._trouble)(*self._trouble.args)
        names = self.topology.names()
        strange = [message.queue for message in messages if message.queue not in names]
        return Unroutable(strange[0]) if strange else None

    def _store(self, message: Outgoing) -> None:
        self.published.append(message)
        if message.delay_ms is None:
            self._queues[message.queue].append(Stored(message))
        else:
            step = self.topology.delayed_through(message.queue, message.delay_ms)
            self._delayed[step].append(Stored(message))

    def _deliver(self) -> None:
        for consumer in tuple(self._shared.consumers):
            queue = self._queues[consumer.queue]
            while queue and consumer.wants_more and self._is_served(consumer):
                consumer.hand_out(queue.popleft())

    def _is_served(self, consumer: MemoryConsumer) -> bool:
        declared = self.topology.find(consumer.queue)
        if declared is None or not declared.single_active:
            return True
        others = (one for one in self._shared.consumers if one.queue == consumer.queue)
        return next(others, None) is consumer
