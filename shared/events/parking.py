"""Parks a message and tells of it, by the rule of custody where its tenant's events are owed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from shared import metrics
from shared.broker.interface import Delivery, Outgoing, ParkReason
from shared.broker.parking import parking_headers
from shared.broker.topology import PARKED
from shared.events.emitter import Emitter
from shared.events.model import MailEvent
from shared.logs import log_parked
from shared.messages.model import DeliveryJob


def park(
    delivery: Delivery,
    reason: ParkReason,
    detail: str,
    emitter: Emitter,
    events: Sequence[MailEvent] = (),
    *,
    now: float,
    job: DeliveryJob | None = None,
) -> asyncio.Future[None]:
    """Move to the parking queue, as `Delivery.reject`; `events` and a line in the log tell of it.

    `now` is in seconds since the epoch; `job` is None if nobody can read the message.
    """
    owed = emitter.owed(events)
    if owed:
        headers = parking_headers(delivery.headers, delivery.queue, reason, detail)
        parked = Outgoing(PARKED, delivery.body, delivery.message_id, headers=headers)
        # custody: the parked message and its events are durable before this one is settled.
        moved = delivery.forward([parked, *owed])
    else:
        moved = delivery.reject(reason, detail)

    def tell(done: asyncio.Future[None]) -> None:
        if not done.cancelled() and done.exception() is None:
            if owed:
                metrics.parked_messages.labels(reason.value).inc()
            log_parked(delivery.message_id, reason.value, detail, now, job)
            emitter.emit(events)

    moved.add_done_callback(tell)
    return moved
