"""Mail that is to be delivered by a time (pure; RFC 2852). Times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Collection

from shared.messages.model import DeliverBy
from shared.smtp.replies import Reply

OVERDUE = Reply(550, "5.4.7", "Not delivered within the time that the sender allowed")
SHORT_MS = 5_000
"""A wait that is no attempt too many when only seconds are left."""


def is_overdue(by: DeliverBy | None, now: float) -> bool:
    """Whether no attempt may be made any more: mode R, and its time is over."""
    return by is not None and by.returns and now >= by.deadline


def wait_before(by: DeliverBy | None, delay_ms: int, now: float, steps_ms: Collection[int]) -> int:
    """The longest of `steps_ms` that is over by the deadline, at most `delay_ms`.

    So the sender hears of it when it is due. Any delay will do where he has nothing to hear.
    """
    if by is None or by.told:
        return delay_ms
    left = max((by.deadline - now) * 1000, SHORT_MS)
    return max((step for step in steps_ms if step <= min(left, delay_ms)), default=delay_ms)
