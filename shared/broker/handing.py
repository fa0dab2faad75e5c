"""A delivery is handed to its handler; no error of a handler stops a consumer."""

from __future__ import annotations

from shared.broker.interface import Delivery, Handler
from shared.logs import get_logger


def hand(handler: Handler, delivery: Delivery) -> None:
    """Call it. A delivery whose handler fails is failed, which counts towards parking it."""
    try:
        handler(delivery)
    except Exception:
        get_logger().exception(
            "a handler failed", queue=delivery.queue, message_id=delivery.message_id
        )
        delivery.failed()
