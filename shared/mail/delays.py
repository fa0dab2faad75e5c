"""Who is told, once, that a mail takes long (pure; RFC 3461, 4.1: DELAY; RFC 2852: N)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.mail.notify import wants, wants_lateness
from shared.messages.model import DeliveryJob, Recipient
from shared.smtp.parameters import Notify
from shared.smtp.replies import Reply

Pair = tuple[Recipient, Reply]
"""A recipient that is tried again, with the last reply."""
Waiting = tuple[Pair, ...]


def tell_of_delay(
    job: DeliveryJob, waiting: Sequence[Pair], now: float, notice_ms: int
) -> tuple[DeliveryJob, Waiting]:
    """The job as it goes on, which knows who was told, and who of `waiting` is told now.

    `notice_ms` is the age from which on a mail takes long; `now` is seconds since the epoch.
    """
    if not waiting:
        return job, ()
    wishes, by = job.dsn, job.deliver_by
    asked: list[Pair] = []
    takes_long = now >= job.accepted_at + notice_ms / 1000
    if takes_long and wishes is not None and not wishes.told_of_delay:
        asked = [pair for pair in waiting if wants(pair[0], Notify.DELAY)]
        if asked:
            wishes = msgspec.structs.replace(wishes, told_of_delay=True)
    if by is not None and not (by.told or by.returns) and now >= by.deadline:
        asked += [pair for pair in waiting if wants_lateness(pair[0]) and pair not in asked]
        by = msgspec.structs.replace(by, told=True)
    if wishes is job.dsn and by is job.deliver_by:
        return job, ()
    # Also of a null reverse-path, whom nobody tells: else it is tried as if it were about to be.
    told = msgspec.structs.replace(job, dsn=wishes, deliver_by=by)
    return told, tuple(asked) if job.reverse_path else ()
