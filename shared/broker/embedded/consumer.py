"""The loop's side of a consumption: the deliveries a handler sees, and what it does with them.

Nothing here touches the store: verbs are collected in the outbox and reach the writer thread once
in a turn of the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from shared.broker.embedded.records import (
    Batch,
    Leased,
    Park,
    Post,
    Row,
    Subscription,
    encode_meta,
)
from shared.broker.handing import hand
from shared.broker.interface import Handler, Outgoing, ParkReason, Unroutable
from shared.broker.parking import log_at_limit, parking_headers


class Outbox(Protocol):
    """Where the loop collects what the writer thread shall do."""

    batch: Batch

    def soon(self) -> None:
        """Hand the batch over at the end of this turn."""

    def sometime(self) -> None:
        """Hand the batch over within milliseconds: nobody waits for it."""

    async def leave(self, subscription: Subscription) -> None:
        """Return when no more is leased for it, and its queue may be another's."""

    def row(self, message: Outgoing) -> Row:
        """What to store. Raises ValueError for a delay that is not declared, and Unroutable."""

    def limit(self, queue: str) -> int | None:
        """How many deliveries of a message of `queue` may fail."""

    def hold_back(self, future: asyncio.Future[None], error: Exception) -> None:
        """Leave a forward open until the broker closes: its successors have no queue."""


class EmbeddedDelivery:
    """One leased message; see `shared.broker.interface.Delivery`."""

    __slots__ = ("_id", "_outbox", "_settled", "attempts", "body", "headers", "message_id", "queue")

    def __init__(self, queue: str, leased: Leased, outbox: Outbox) -> None:
        self.queue = queue
        self._id = leased.id
        self.attempts = leased.deliveries - 1
        self.message_id = leased.message_id
        self.headers: Mapping[str, str] = leased.headers
        self.body = leased.body
        self._outbox = outbox
        self._settled = False

    def ack(self) -> None:
        """Settle: the message leaves the queue."""
        if not self._settled:
            self._settled = True
            self._outbox.batch.acks.append(self._id)
            self._outbox.sometime()

    def release(self) -> None:
        """Give back, not counted."""
        if not self._settled:
            self._settled = True
            self._outbox.batch.releases.append(self._id)
            self._outbox.sometime()

    def failed(self) -> None:
        """Give back, counted; above the queue's limit the message is parked."""
        if self._settled:
            return
        limit = self._outbox.limit(self.queue)
        if limit is not None and self.attempts >= limit:
            detail = f"failed {self.attempts + 1} times"
            moved = self.reject(ParkReason.DELIVERY_LIMIT, detail)
            moved.add_done_callback(partial(log_at_limit, self.message_id, detail))
            return
        self._settled = True
        self._outbox.batch.failures.append(self._id)
        self._outbox.sometime()

    def reject(self, reason: ParkReason, detail: str = "") -> asyncio.Future[None]:
        """Move to the parking queue, durably."""
        done = asyncio.get_running_loop().create_future()
        if self._settled:
            done.set_result(None)
            return done
        self._settled = True
        headers = parking_headers(self.headers, self.queue, reason, detail)
        meta = encode_meta(self.message_id, headers)
        self._outbox.batch.parks.append(Park(self._id, meta, reason, done))
        self._outbox.soon()
        return done

    def forward(
        self, successors: Sequence[Outgoing], *, lasting: bool = True
    ) -> asyncio.Future[None]:
        """Store all successors and remove this message in one transaction: never both, never none.

        Raises ValueError for a delay that is not declared; the message is then still ours.
        """
        done = asyncio.get_running_loop().create_future()
        if self._settled:
            done.set_result(None)
            return done
        try:
            rows = [self._outbox.row(message) for message in successors]
        except Unroutable as error:
            self._settled = True
            self._outbox.hold_back(done, error)
            return done
        self._settled = True
        # custody: the writer stores the successors and deletes this message in one commit.
        self._outbox.batch.posts.append(Post(rows, done, time.perf_counter(), self._id, lasting))
        self._outbox.soon()
        return done


class EmbeddedConsumer:
    """A running consumption; see `shared.broker.interface.Consumer`."""

    def __init__(self, queue: str, prefetch: int, handler: Handler, outbox: Outbox) -> None:
        self._queue = queue
        self._handler = handler
        self._outbox = outbox
        self._stopped = False
        self.subscription = Subscription(queue, prefetch, self._deliver)
        outbox.batch.joins.append(self.subscription)
        outbox.soon()

    async def stop(self) -> None:
        """Take no more. What is leased but not handed out yet goes back uncounted."""
        if not self._stopped:
            self._stopped = True
            await self._outbox.leave(self.subscription)

    def _deliver(self, messages: list[Leased]) -> None:
        for message in messages:
            delivery = EmbeddedDelivery(self._queue, message, self._outbox)
            if self._stopped:
                delivery.release()
            else:
                hand(self._handler, delivery)
