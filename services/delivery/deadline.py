"""What a deadline means towards a next hop (pure; RFC 2852, 4). Times are since the epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from shared.mail.deadline import OVERDUE
from shared.messages.model import DeliverBy
from shared.smtp.replies import Reply

NEEDS_DELIVERBY = Reply(550, "5.3.3", "The next hop does not promise to deliver in time")
TOO_LITTLE_LEFT = Reply(550, "5.4.7", "The next hop needs more time than is left")
_MOST = 999_999_999
"""Nine digits (RFC 2852, 2)."""


def seconds_left(by: DeliverBy, now: float) -> int:
    """Whole seconds, of whatever a queue message holds; below 0 when the time is over."""
    return math.floor(max(-_MOST, min(_MOST, by.deadline - now)))


def deadline_obstacle(by: DeliverBy, offered: Mapping[str, str], now: float) -> Reply | None:
    """Why mail of mode R cannot go to this peer, None if it may, as all of mode N.

    What must come back in time may only go where that is promised as well.
    """
    if not by.returns:
        return None
    left = seconds_left(by, now)
    if left < 1:
        return OVERDUE
    if "deliverby" not in offered:
        return NEEDS_DELIVERBY
    least = offered["deliverby"].split(",")[0].strip()
    return TOO_LITTLE_LEFT if least.isdecimal() and int(least[:9]) > left else None


def by_parameter(by: DeliverBy, now: float) -> str:
    """BY for a peer with DELIVERBY: the time that is left."""
    mode = "R" if by.returns else "N"
    return f" BY={seconds_left(by, now)};{mode}{'T' if by.traced else ''}"
