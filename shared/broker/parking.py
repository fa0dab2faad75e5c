"""The headers of a parked message: the same on both brokers, for the person who decides.

Only headers are added; the body stays byte for byte, so that a repaired message can go back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from shared.broker.interface import ParkReason
from shared.logs import get_logger

REASON = "x-postroad-reason"
DETAIL = "x-postroad-detail"
QUEUE = "x-postroad-queue"

LONGEST_DETAIL = 512
"""Characters of a detail that a header carries; it may hold text from a peer."""


def log_at_limit(message_id: str, detail: str, moved: asyncio.Future[None] | None = None) -> None:
    """Log that a broker parked a message by itself, once it has `moved`: no service knows of it."""
    if moved is None or (not moved.cancelled() and moved.exception() is None):
        reason = ParkReason.DELIVERY_LIMIT.value
        get_logger().info("parked", job_id=message_id, reason=reason, reply=detail)


def parking_headers(
    headers: Mapping[str, str], queue: str, reason: ParkReason, detail: str = ""
) -> dict[str, str]:
    """The message's own headers, with why it was parked and which queue it came from."""
    added = {REASON: reason.value, DETAIL: detail[:LONGEST_DETAIL], QUEUE: queue}
    return {**headers, **added}
