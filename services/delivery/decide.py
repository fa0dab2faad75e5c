"""What becomes of a job after an attempt (pure): done, once more later, or given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from shared.mail.schedule import is_expired, next_delay_ms
from shared.messages.model import DeliveryJob, Recipient
from shared.messages.outcome import Delivered, Failed, Outcome
from shared.settings.model import DeliverySettings
from shared.smtp.replies import Reply


@dataclass(frozen=True, slots=True)
class Decision:
    """`retry` holds the recipients to try again after `delay_ms`; None if there are none."""

    delivered: tuple[tuple[Recipient, Reply], ...] = ()
    deferred: tuple[tuple[Recipient, Reply], ...] = ()
    failed: tuple[tuple[Recipient, Failed], ...] = ()
    retry: DeliveryJob | None = None
    delay_ms: int = 0


def decide(
    job: DeliveryJob, outcomes: Sequence[Outcome], now: float, settings: DeliverySettings
) -> Decision:
    """Sort the recipients by what happened; `now` is seconds since the epoch."""
    attempts = job.attempt + 1
    expired = is_expired(job.accepted_at, now, settings.max_age, attempts)
    delivered: list[tuple[Recipient, Reply]] = []
    deferred: list[tuple[Recipient, Reply]] = []
    failed: list[tuple[Recipient, Failed]] = []
    for recipient, outcome in zip(job.recipients, outcomes, strict=True):
        if isinstance(outcome, Delivered):
            delivered.append((recipient, outcome.reply))
        elif isinstance(outcome, Failed):
            failed.append((recipient, outcome))
        elif expired:
            failed.append((recipient, _expired(outcome.reply)))
        else:
            deferred.append((recipient, outcome.reply))
    retry, delay = None, 0
    if deferred:
        later = tuple(recipient for recipient, _ in deferred)
        retry = msgspec.structs.replace(job, recipients=later, attempt=attempts)
        delay = next_delay_ms(settings.retry_schedule, attempts)
    return Decision(tuple(delivered), tuple(deferred), tuple(failed), retry, delay)


def _expired(last: Reply) -> Failed:
    return Failed(Reply(451, "4.4.7", f"Delivery time expired; last reply: {last}"), "expired")
