"""Who is told, once, that a mail takes long (pure; RFC 3461, 4.1: DELAY)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.mail.notify import wants
from shared.messages.model import DeliveryJob, Recipient
from shared.smtp.parameters import Notify
from shared.smtp.replies import Reply

Waiting = tuple[tuple[Recipient, Reply], ...]
"""Recipients that are tried again, each with the last reply."""


def tell_of_delay(
    job: DeliveryJob, waiting: Sequence[tuple[Recipient, Reply]], now: float, notice_ms: int
) -> tuple[DeliveryJob, Waiting]:
    """The job as it goes on, which knows that it was told, and who of `waiting` is told now.

    `notice_ms` is the age from which on a mail takes long; `now` is seconds since the epoch.
    """
    wishes = job.dsn
    if wishes is None or wishes.told_of_delay or not job.reverse_path:
        return job, ()
    told = tuple(pair for pair in waiting if wants(pair[0], Notify.DELAY))
    if not told or now - job.accepted_at < notice_ms / 1000:
        return job, ()
    wishes = msgspec.structs.replace(wishes, told_of_delay=True)
    return msgspec.structs.replace(job, dsn=wishes), told
