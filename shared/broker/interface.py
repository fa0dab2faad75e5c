"""The small interface through which the services meet: queues that keep what they confirmed.

Two implementations stand behind it (`shared.broker.amqp`, `shared.broker.embedded`) and one
conformance suite runs against both. Everything here is called on the asyncio loop; nothing blocks.

The custody rule is one method: `Delivery.forward` publishes the successors, waits until they are
durable, and only then acknowledges the predecessor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class PublishError(Exception):
    """A message was not stored as asked; each subclass says what is known about it."""


class Unavailable(PublishError):  # noqa: N818 - the three names are the interface's vocabulary
    """The broker is down, blocked or late. The outcome is unknown: publish again, same id."""


class Refused(PublishError):  # noqa: N818
    """The broker said no (a nack: the queue is full, the disk is full). Nothing was stored."""


class Unroutable(PublishError):  # noqa: N818
    """No queue of that name exists. Nothing was stored; the topology is damaged."""


class ParkReason(StrEnum):
    """Why a message lies in the parking queue: a bounded set, used as a metric label."""

    UNDECODABLE = "undecodable"
    UNKNOWN_SCHEMA = "unknown_schema"
    HANDLER_FAILED = "handler_failed"
    DELIVERY_LIMIT = "delivery_limit"
    DSN_FAILED = "dsn_failed"
    CONTENT_MISSING = "content_missing"
    UNSAFE_CONTENT = "unsafe_content"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish.

    `delay_ms` is None (visible at once) or one of the delays that the topology declares for
    `queue`; the message then becomes visible in `queue` after that many milliseconds.
    """

    queue: str
    body: bytes
    message_id: str
    delay_ms: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Delivery(Protocol):
    """One message in the hands of this process until exactly one of the four verbs is called.

    A second verb, or one after the connection that brought the message was lost, does nothing:
    the broker has taken the message back already.
    """

    queue: str
    body: bytes
    attempts: int
    """How many earlier deliveries of this message failed or died with their consumer."""

    @property
    def message_id(self) -> str:
        """The id it was published with."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers it was published with."""

    def ack(self) -> None:
        """Settle: the message is done with and leaves the queue."""

    def release(self) -> None:
        """Give back untouched (shutdown, not mine): does not count as a failed try.

        But for RabbitMQ before 4.3 while it blocks publishers: then it counts.
        """

    def failed(self) -> None:
        """Give back after a failure of ours: counts; at the queue's delivery limit it is parked."""

    def reject(self, reason: ParkReason, detail: str = "") -> asyncio.Future[None]:
        """Move to the parking queue with the reason in its headers, durably; then settle."""

    def forward(
        self, successors: Sequence[Outgoing], *, lasting: bool = True
    ) -> asyncio.Future[None]:
        """Publish all `successors` durably, then settle this message: custody moves on.

        A move that is not `lasting` may be undone as a whole by a power cut, on the embedded
        broker, with all that came after it: enough where nothing outside depends on it.

        Troubles of the broker are retried with backoff for as long as this delivery is ours.
        The future ends when custody has moved, or with `Unavailable` when the delivery was lost
        or the broker is closing (it will then be delivered again).
        """


Handler = Callable[[Delivery], None]
"""Called on the loop for each delivery. An exception it raises counts as `failed()`."""


class Consumer(Protocol):
    """A running consumption of one queue."""

    async def stop(self) -> None:
        """Take no more; returns when no further call of the handler will come.

        Deliveries already handed out stay valid: they are settled by their own verbs. From then on
        another consumer of a `single_active` queue may be served.
        """


class Listener(Protocol):
    """A running subscription to announcements."""

    async def stop(self) -> None:
        """No further call of the handler will come."""


Told = tuple[str, bytes]
"""A routing key and a body (see `EventLine`)."""
Follow = Callable[[bytes], None]
"""Called on the loop with each body. One that is not done with is given again, where it can be."""


class EventLine(Protocol):
    """What is told to whoever follows, without promise, and beside the mail.

    Nothing here waits, and nothing is owed: what cannot be told now is not told.
    """

    @property
    def followed(self) -> bool:
        """Whether somebody of ours has followed lately; asking begins to find out."""

    @property
    def hearing(self) -> bool:
        """Whether what is told would reach those who follow here."""

    def scatter(self, told: Sequence[Told]) -> bool:
        """Tell all of it, in this order; False: nothing of it, since there is no way now.

        Each body has at most `LONGEST_BODY` octets.
        """

    def follow(self, patterns: Sequence[str], handler: Follow, *, name: str = "") -> Listener:
        """Call `handler` with each body whose routing key one of `patterns` matches.

        Under a `name` what is told while its follower is away waits for it, in bounds, where the
        broker can keep it (not the embedded one).
        """

    async def close(self) -> None:
        """Tell what is under way, and call no handler again."""


LONGEST_BODY = 65_536
"""Octets that `EventLine.scatter` tells in one piece."""


class Broker(Protocol):
    """Queues that keep what they confirmed."""

    @property
    def events(self) -> EventLine:
        """What is told of the mail, to whoever follows."""

    @property
    def usable(self) -> bool:
        """Connected, declared and not blocked: the readiness of a service."""

    @property
    def blocked(self) -> bool:
        """The broker asked publishers to wait (memory or disk alarm, disk full)."""

    @property
    def hearing(self) -> bool:
        """Whether announcements of others would reach us now.

        False while nobody listens here, and while the broker is away or blocked: who is not heard
        may then be alive.
        """

    async def start(self) -> None:
        """Start connecting, in the background; declares the topology."""

    async def wait_usable(self, timeout: float) -> None:
        """Return when usable; raises `Unavailable` after `timeout` seconds."""

    def publish(self, message: Outgoing) -> asyncio.Future[None]:
        """Ends when the message is stored durably, else with one of the three `PublishError`s."""

    def consume(self, queue: str, prefetch: int, handler: Handler) -> Consumer:
        """Deliver messages of `queue`, at most `prefetch` unsettled at a time, until stopped.

        Of a queue that is declared `single_active` one consumer is served, of all processes; when
        it stops or dies the next one is, and may then be served before the deliveries that the
        former one still holds are settled.
        """

    def announce(self, body: bytes) -> None:
        """Tell every process that listens now, this one among them: soon, and without promise.

        For what the living tell each other, never for mail. While the broker is away or blocked
        announcements are lost.
        """

    def listen(self, handler: Callable[[bytes], None]) -> Listener:
        """Call `handler` on the loop for each announcement from now on, until stopped."""

    async def left_over(self) -> Sequence[str]:
        """Lane queues that former plans declared and this topology lacks: they may hold mail.

        They can be consumed like declared ones. While another process asks or starts, some may be
        missing from the answer: ask again from time to time. Raises `Unavailable`.
        """

    async def depths(self, queues: Collection[str] | None = None) -> Mapping[str, int]:
        """Messages in each of `queues` that no consumer holds (delayed ones by their step).

        None: of each declared queue. 0 for a queue that is not there. Raises `Unavailable` when the
        broker does not answer, which may take it some seconds.
        """

    async def close(self) -> None:
        """Flush settlements that are under way, give everything else back, and disconnect."""
