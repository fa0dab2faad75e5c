"""What becomes of a job after an attempt (pure): done, once more later, held, or given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from shared.broker.topology import WAIT_STEPS_MS
from shared.mail.deadline import OVERDUE, is_overdue, wait_before
from shared.mail.delays import tell_of_delay
from shared.mail.notify import wants, wants_lateness
from shared.mail.schedule import is_expired, next_delay_ms
from shared.messages.model import DeliveryJob, Recipient
from shared.messages.outcome import Deferred, Delivered, Failed, Outcome, Unknown
from shared.settings.model import DeliverySettings
from shared.settings.sending import Uncertain
from shared.smtp.parameters import NEVER, Notify
from shared.smtp.replies import Reply


@dataclass(frozen=True, slots=True)
class Decision:
    """`retry` holds the recipients to try again after `delay_ms`; None if there are none.

    `cause` is one of RETRY_REASONS: why the first of them is tried again.

    `uncertain` are those of whom nobody knows whether their receiver took the mail, with whom
    `policy` is followed: those to be tried again are in `retry`, or in `failed` when that is late.
    Of `relayed` and `delayed` the sender wishes to be told; `until` is when the latter expire, in
    seconds since the epoch.
    """

    delivered: tuple[tuple[Recipient, Reply], ...] = ()
    deferred: tuple[tuple[Recipient, Reply], ...] = ()
    failed: tuple[tuple[Recipient, Failed], ...] = ()
    uncertain: tuple[tuple[Recipient, Reply], ...] = ()
    policy: Uncertain = Uncertain.RETRY
    retry: DeliveryJob | None = None
    delay_ms: int = 0
    cause: str = ""
    relayed: tuple[tuple[Recipient, Reply], ...] = ()
    delayed: tuple[tuple[Recipient, Reply], ...] = ()
    until: float = 0.0


def decide(
    job: DeliveryJob, outcomes: Sequence[Outcome], now: float, settings: DeliverySettings
) -> Decision:
    """Sort the recipients by what happened; `now` is seconds since the epoch."""
    pairs = tuple(zip(job.recipients, outcomes, strict=True))
    delivered = tuple((who, what.reply) for who, what in pairs if isinstance(what, Delivered))
    relayed: tuple[tuple[Recipient, Reply], ...] = ()
    if (job.dsn is not None or job.deliver_by is not None) and job.reverse_path:
        relayed = tuple(
            (who, what.reply)
            for who, what in pairs
            if isinstance(what, Delivered) and _tells_relayed(job, who, what)
        )
    if len(delivered) == len(pairs):
        return Decision(delivered, relayed=relayed)
    policy = settings.uncertain_by_tenant.get(job.tenant, settings.uncertain)
    failed = [(who, what) for who, what in pairs if isinstance(what, Failed)]
    uncertain = tuple((who, what.reply) for who, what in pairs if isinstance(what, Unknown))
    deferred = tuple((who, what.reply) for who, what in pairs if isinstance(what, Deferred))
    later = deferred + uncertain if policy is Uncertain.RETRY else deferred
    attempts = job.attempt + 1
    if later and is_expired(job.accepted_at, now, settings.max_age, attempts):
        failed += [(who, _expired(reply)) for who, reply in later]
        later = deferred = ()
    elif later and is_overdue(job.deliver_by, now):
        failed += [(who, _overdue(reply)) for who, reply in later]
        later = deferred = ()
    retry, delay, cause = None, 0, ""
    if later:
        recipients = tuple(who for who, _ in later)
        retry = msgspec.structs.replace(job, recipients=recipients, attempt=attempts)
        delay = next_delay_ms(settings.retry_schedule, attempts)
        if job.deliver_by is not None:
            steps = (*settings.retry_schedule, *WAIT_STEPS_MS)
            delay = wait_before(job.deliver_by, delay, now, steps)
        reasons = (what.reason for _, what in pairs if isinstance(what, Deferred))
        cause = next(reasons, "uncertain")
    decision = Decision(
        delivered, deferred, tuple(failed), uncertain, policy, retry, delay, cause, relayed
    )
    return _with_delay(decision, job, now, settings)


def _with_delay(
    decision: Decision, job: DeliveryJob, now: float, settings: DeliverySettings
) -> Decision:
    if decision.retry is None:
        return decision
    notice = settings.delay_notice
    waiting = decision.deferred
    if decision.policy is Uncertain.RETRY:
        waiting += decision.uncertain
    retry, delayed = tell_of_delay(decision.retry, waiting, now, notice)
    if retry is decision.retry:
        return decision
    until = job.accepted_at + settings.max_age / 1000
    return replace(decision, retry=retry, delayed=delayed, until=until)


def _tells_relayed(job: DeliveryJob, who: Recipient, what: Delivered) -> bool:
    """Whether the sender is told that the next hop took it (RFC 3461, 5.2.2; RFC 2852, 4)."""
    if job.dsn is not None and not what.told and wants(who, Notify.SUCCESS):
        return True
    by = job.deliver_by
    if by is None:
        return False
    lost = not (by.returns or by.told or what.timed) and wants_lateness(who)
    return lost or (by.traced and who.notify != NEVER)


def _overdue(last: Reply) -> Failed:
    return Failed(Reply(550, "5.4.7", f"{OVERDUE.text}; last reply: {last}"), "expired")


def _expired(last: Reply) -> Failed:
    return Failed(Reply(451, "4.4.7", f"Delivery time expired; last reply: {last}"), "expired")
