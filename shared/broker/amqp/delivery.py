"""A delivery from RabbitMQ, and the way of custody: publish the successors, then acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from shared import metrics
from shared.broker.amqp.subscription import Subscription, Verb
from shared.broker.interface import Outgoing, ParkReason, PublishError, Unavailable
from shared.broker.parking import log_at_limit, parking_headers
from shared.broker.topology import PARKED

COUNT_HEADER = "x-delivery-count"
_BROKERS_OWN = ("x-death", "x-first-death", "x-last-death", "x-delivery", "x-acquired")

FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 5.0

_count_parked = {reason: metrics.parked_messages.labels(reason.value).inc for reason in ParkReason}


class Courier(Protocol):
    """What a delivery needs of its broker."""

    def publish(self, message: Outgoing) -> asyncio.Future[None]:
        """See `Broker.publish`."""

    def settle(self, delivery: AmqpDelivery, verb: Verb) -> None:
        """Settle on the channel that brought it, if that is still there."""

    def is_current(self, delivery: AmqpDelivery) -> bool:
        """Whether that channel still stands, and the broker is not closing."""

    def release(self, delivery: AmqpDelivery) -> None:
        """Give back without counting, but while publishers are blocked (see `AmqpBroker`)."""

    def try_later(self, seconds: float, again: Callable[[], None]) -> None:
        """Call after that time, or when the broker closes."""

    def limit(self, queue: str) -> int | None:
        """How many deliveries of a message of `queue` may fail."""


class AmqpDelivery:
    """One message; see `shared.broker.interface.Delivery`. `tag` belongs to `generation`."""

    __slots__ = ("_courier", "_properties", "_settled", "attempts", "body", "generation", "queue",
                 "subscription", "tag")  # fmt: skip

    def __init__(
        self, subscription: Subscription, message: Any, generation: int, courier: Courier
    ) -> None:
        self.subscription = subscription
        self.queue = subscription.queue
        self.body: bytes = message.body or b""  # py-amqp gives text for an empty body
        self.generation = generation
        self.tag: int = message.delivery_info["delivery_tag"]
        self._properties: dict[str, Any] = message.properties
        table = self._properties.get("application_headers")
        self.attempts: int = table.get(COUNT_HEADER, 0) if table else 0
        self._courier = courier
        self._settled = False

    @property
    def message_id(self) -> str:
        """The id it was published with."""
        return str(self._properties.get("message_id", ""))

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers it was published with, without the broker's own."""
        table = self._properties.get("application_headers") or {}
        return {
            name: value
            for name, value in table.items()
            if isinstance(value, str) and not name.startswith(_BROKERS_OWN)
        }

    def ack(self) -> None:
        """Settle: the message leaves the queue."""
        if self._take():
            self._courier.settle(self, Verb.ACK)

    def release(self) -> None:
        """Give back, not counted."""
        if self._take():
            self._courier.release(self)

    def failed(self) -> None:
        """Give back, counted; above the queue's limit the message is parked."""
        limit = self._courier.limit(self.queue)
        if limit is not None and self.attempts >= limit:
            detail = f"failed {self.attempts + 1} times"
            moved = self.reject(ParkReason.DELIVERY_LIMIT, detail)
            moved.add_done_callback(partial(log_at_limit, self.message_id, detail))
        elif self._take():
            self._courier.settle(self, Verb.FAILED)

    def reject(self, reason: ParkReason, detail: str = "") -> asyncio.Future[None]:
        """Move to the parking queue, durably."""
        headers = parking_headers(self.headers, self.queue, reason, detail)
        settled = self._settled
        moved = self.forward([Outgoing(PARKED, self.body, self.message_id, headers=headers)])
        if not settled:
            moved.add_done_callback(partial(_parked, reason))
        return moved

    def forward(
        self, successors: Sequence[Outgoing], *, lasting: bool = True
    ) -> asyncio.Future[None]:
        """Publish all, confirmed, then acknowledge.

        Raises ValueError for a delay that is not declared; the message is then still ours.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._settled:
            done.set_result(None)
        else:
            Forwarding(self, self._courier, done).begin(successors)
            self._settled = True
        return done

    def _take(self) -> bool:
        taken, self._settled = not self._settled, True
        return taken


def _parked(reason: ParkReason, moved: asyncio.Future[None]) -> None:
    if not moved.cancelled() and moved.exception() is None:
        _count_parked[reason]()


class Forwarding:
    """Successors on their way. Callbacks only: a task is never needed.

    A publish that fails is repeated, under the same id, until it succeeds or the delivery is no
    longer ours; then the broker delivers the predecessor again and nothing is lost.
    """

    __slots__ = ("_courier", "_delivery", "_done", "_missing")

    def __init__(
        self, delivery: AmqpDelivery, courier: Courier, done: asyncio.Future[None]
    ) -> None:
        self._delivery = delivery
        self._courier = courier
        self._done = done
        self._missing = 0

    def begin(self, successors: Sequence[Outgoing]) -> None:
        """Publish all of them."""
        self._missing = len(successors)
        for successor in successors:
            self._publish(successor, FIRST_RETRY_SECONDS)
        if not successors:
            self._finish()

    def _publish(self, successor: Outgoing, wait: float) -> None:
        if self._courier.is_current(self._delivery):
            published = self._courier.publish(successor)
            published.add_done_callback(partial(self._published, successor, wait))
        else:
            self._give_up()

    def _published(self, successor: Outgoing, wait: float, future: asyncio.Future[None]) -> None:
        error = future.exception()
        if error is None:
            self._missing -= 1
            if self._missing == 0:
                self._finish()
        elif isinstance(error, PublishError) and self._courier.is_current(self._delivery):
            longer = min(2 * wait, LONGEST_RETRY_SECONDS)
            self._courier.try_later(wait, partial(self._publish, successor, longer))
        else:
            self._give_up()

    def _finish(self) -> None:
        # custody: every successor is confirmed; only now may the predecessor go.
        self._courier.settle(self._delivery, Verb.ACK)
        if not self._done.done():
            self._done.set_result(None)

    def _give_up(self) -> None:
        if not self._done.done():
            self._done.set_exception(Unavailable("the delivery was lost; it will come again"))
            self._done.exception()  # nobody is bound to look: the message comes again by itself
