"""The span of a message's way through the router: from the queue it came out of into the next."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from shared.broker.interface import Delivery, Outgoing, ParkReason
from shared.broker.topology import ACCEPTED, DUE, LANE_PREFIX, PARKED
from shared.messages.model import DeliveryJob
from shared.tracing.tracer import Kind, Span, Tracer

_FOLLOWERS = {ACCEPTED: "notifications", DUE: "postponed", PARKED: "parked"}
"""What follows a message and is not a job for delivery."""


def _kind(message: Outgoing) -> str:
    """Empty for what is neither mail nor job."""
    return "jobs" if message.queue.startswith(LANE_PREFIX) else _FOLLOWERS.get(message.queue, "")


class TracedDelivery:
    """A delivery that ends its span with itself (see `shared.broker.interface.Delivery`)."""

    def __init__(
        self, delivery: Delivery, span: Span, job: DeliveryJob, clock: Callable[[], float]
    ) -> None:
        self.queue = delivery.queue
        self.body = delivery.body
        self.attempts = delivery.attempts
        self.dns_seconds = 0.0
        self._delivery = delivery
        self._span = span
        self._job = job
        self._clock = clock

    @property
    def message_id(self) -> str:
        """See `Delivery`."""
        return self._delivery.message_id

    @property
    def headers(self) -> Mapping[str, str]:
        """See `Delivery`."""
        return self._delivery.headers

    def ack(self) -> None:
        """See `Delivery`."""
        self._delivery.ack()
        self._end({}, "")

    def release(self) -> None:
        """See `Delivery`."""
        self._delivery.release()
        self._end({}, "released")

    def failed(self) -> None:
        """See `Delivery`."""
        self._delivery.failed()
        self._end({}, "failed")

    def reject(self, reason: ParkReason, detail: str = "") -> asyncio.Future[None]:
        """See `Delivery`."""
        future = self._delivery.reject(reason, detail)
        future.add_done_callback(partial(self._moved, {"parked": 1}, reason.value))
        return future

    def forward(
        self, successors: Sequence[Outgoing], *, lasting: bool = True
    ) -> asyncio.Future[None]:
        """See `Delivery`."""
        future = self._delivery.forward(successors, lasting=lasting)
        counts = Counter(filter(None, map(_kind, successors)))
        error = "" if counts["jobs"] else next(iter(counts), "")
        future.add_done_callback(partial(self._moved, counts, error))
        return future

    def _moved(self, counts: Mapping[str, int], error: str, future: asyncio.Future[None]) -> None:
        lost = future.cancelled() or future.exception() is not None
        self._end(counts, "unavailable" if lost else error)

    def _end(self, counts: Mapping[str, int], error: str) -> None:
        job = self._job
        attributes: dict[str, str | int | float | bool] = {
            "messaging.operation.type": "process",
            "messaging.destination.name": self.queue,
            "messaging.message.id": self.message_id,
            "postroad.mail_id": job.mail_id,
            "postroad.tenant": job.tenant,
            "postroad.class": job.message_class.value,
            "postroad.recipients": len(job.recipients),
            "postroad.attempt": job.attempt,
            "postroad.dns_seconds": self.dns_seconds,
        }
        attributes |= {f"postroad.{what}": count for what, count in counts.items() if count}
        self._span.end(self._clock(), attributes, error)


def traced(
    tracer: Tracer, delivery: Delivery, parent: DeliveryJob, clock: Callable[[], float]
) -> tuple[Delivery, DeliveryJob]:
    """Both with the span of this message's routing, which begins now.

    The jobs of an accepted mail are caused by this span. A job that comes again keeps its cause, so
    that attempts are side by side however many there are.
    """
    span = tracer.begin("route", Kind.CONSUMER, clock(), parent.traceparent)
    if span is None:
        return delivery, parent
    if delivery.queue == ACCEPTED:
        parent = msgspec.structs.replace(parent, traceparent=span.traceparent)
    return TracedDelivery(delivery, span, parent, clock), parent
