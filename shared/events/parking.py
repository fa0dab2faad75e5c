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


def park(
    delivery: Delivery,
    reason: ParkReason,
    detail: str,
    emitter: Emitter,
    events: Sequence[MailEvent],
) -> asyncio.Future[None]:
    """Move to the parking queue, as `Delivery.reject`; `events` tell of it."""
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
            emitter.emit(events)

    moved.add_done_callback(tell)
    return moved
