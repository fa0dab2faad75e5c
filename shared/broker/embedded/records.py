"""What passes between the event loop and the writer thread, as plain values.

The loop fills a `Batch` during one turn and hands it over whole; the writer answers with an
`Outcome`. Neither side touches what it has handed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from shared.broker.interface import ParkReason, PublishError

_META_DECODER = msgspec.json.Decoder(tuple[str, dict[str, str]])


def encode_meta(message_id: str, headers: Mapping[str, str]) -> str:
    """The id and the headers of a message as the JSON text that is stored beside its body."""
    return msgspec.json.encode((message_id, headers)).decode()


def decode_meta(meta: str) -> tuple[str, dict[str, str]]:
    """The id and the headers back from `encode_meta`'s text."""
    return _META_DECODER.decode(meta)


class Row(NamedTuple):
    """One message to insert; `step` and `visible_at` (epoch seconds) are set for delayed ones."""

    queue: str
    meta: str
    body: bytes
    step: str | None = None
    visible_at: float | None = None


class Leased(NamedTuple):
    """One message this process now holds; `deliveries` counts this one too."""

    id: int
    deliveries: int
    message_id: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True, eq=False)
class Subscription:
    """One consumer as the writer thread sees it; only that thread changes it once handed over."""

    queue: str
    prefetch: int
    deliver: Callable[[list[Leased]], None]
    held: int = 0
    fence: int | None = None
    """Of a single active queue, once this is the consumer that is served."""
    lease_limit: int = 16
    """How many messages to lease at once; follows the size of the bodies."""


class Post:
    """Rows to store in one transaction, and the message they succeed, which leaves in the same.

    Without `lasting` nobody waits for the disk: what was before is still there if it is undone.
    """

    __slots__ = ("done", "lasting", "predecessor", "rows", "started")

    def __init__(
        self,
        rows: list[Row],
        done: asyncio.Future[None],
        started: float,
        predecessor: int | None = None,
        lasting: bool = True,
    ) -> None:
        self.rows = rows
        self.done = done
        self.started = started
        self.predecessor = predecessor
        self.lasting = lasting


@dataclass(slots=True, eq=False)
class Park:
    """A held message to move to the parking queue under new headers."""

    id: int
    meta: str
    reason: ParkReason
    done: asyncio.Future[None]


class Survey(NamedTuple):
    """What the store holds: messages that nobody holds, by queue or step, and all queues' names."""

    depths: dict[str, int]
    queues: frozenset[str]


@dataclass(frozen=True, slots=True)
class Leave:
    """A consumer that takes no more; `done` ends once another process may be served."""

    subscription: Subscription
    done: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class Batch:
    """Everything the loop asked for in one turn (or, merged, since the last transaction)."""

    posts: list[Post] = field(default_factory=list)
    parks: list[Park] = field(default_factory=list)
    acks: list[int] = field(default_factory=list)
    releases: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    joins: list[Subscription] = field(default_factory=list)
    leaves: list[Leave] = field(default_factory=list)
    questions: list[asyncio.Future[Survey]] = field(default_factory=list)
    farewell: asyncio.Future[None] | None = None

    def absorb(self, later: Batch) -> None:
        """Append what a later batch asks for."""
        self.posts += later.posts
        self.parks += later.parks
        self.acks += later.acks
        self.releases += later.releases
        self.failures += later.failures
        self.joins += later.joins
        self.leaves += later.leaves
        self.questions += later.questions
        self.farewell = self.farewell or later.farewell

    def writes(self) -> bool:
        """Whether it changes the store."""
        return bool(self.posts or self.parks or self.acks or self.releases or self.failures)

    def durable(self) -> bool:
        """Whether somebody waits for its commit to be safe from a power cut."""
        return bool(self.parks) or any(post.lasting for post in self.posts)

    def arrivals(self) -> list[Row] | None:
        """The rows to store, if there is nothing but publishes that wait for the disk."""
        others = self.parks or self.acks or self.releases or self.failures
        if others or any(post.predecessor is not None or not post.lasting for post in self.posts):
            return None
        return [row for post in self.posts for row in post.rows]

    def settlements(self) -> list[int]:
        """The ids of all messages that leave our hands."""
        predecessors = [post.predecessor for post in self.posts if post.predecessor is not None]
        parked = [park.id for park in self.parks]
        return self.acks + self.releases + self.failures + predecessors + parked

    def waiting(self) -> list[asyncio.Future[None]]:
        """The futures of everybody who waits for its commit."""
        return [post.done for post in self.posts] + [park.done for park in self.parks]

    def without_publishes(self) -> tuple[Batch, list[Post]]:
        """Split into what must be tried again and the publishes that fail with the transaction."""
        kept = [post for post in self.posts if post.predecessor is not None]
        lost = [post for post in self.posts if post.predecessor is None]
        return Batch(kept, self.parks, self.acks, self.releases, self.failures), lost

    def without_growth(self) -> tuple[Batch, Batch]:
        """Split into settlements, which free space, and forwards and parkings, which need it."""
        return (
            Batch(acks=self.acks, releases=self.releases, failures=self.failures),
            Batch(posts=self.posts, parks=self.parks),
        )


@dataclass(slots=True, eq=False)
class Outcome:
    """What became of a batch: confirmed, failed, and what was leased in the same transaction."""

    posts: list[Post] = field(default_factory=list)
    parks: list[Park] = field(default_factory=list)
    failed: list[tuple[Post, PublishError]] = field(default_factory=list)
    leases: list[tuple[Subscription, list[Leased]]] = field(default_factory=list)

    def empty(self) -> bool:
        """Whether the loop need not hear of it."""
        return not (self.posts or self.parks or self.failed or self.leases)
