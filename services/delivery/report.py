"""Counts and logs the outcomes of an attempt: one line for each kind of outcome."""

from __future__ import annotations

from collections.abc import Sequence

from services.delivery.decide import Decision
from shared import metrics
from shared.logs import log_event
from shared.messages.model import DeliveryJob, Event, Recipient
from shared.messages.outcome import Deferred, Delivered, Failed, Outcome, Unknown
from shared.settings.sending import Uncertain
from shared.settings.units import format_duration
from shared.smtp.replies import Reply

_attempts = {
    kind: metrics.delivery_attempts.labels(kind.__name__.lower()).inc
    for kind in (Delivered, Deferred, Failed, Unknown)
}
_delivered = _attempts[Delivered]
_delivered_seconds = metrics.queue_seconds.labels("delivered").observe
_failed_seconds = metrics.queue_seconds.labels("failed").observe
_failures = {reason: metrics.failures.labels(reason).inc for reason in metrics.FAILURE_REASONS}


def count_attempt(outcomes: Sequence[Outcome]) -> None:
    """One for each recipient."""
    for outcome in outcomes:
        _attempts[type(outcome)]()


def count_delivered(job: DeliveryJob, reply: Reply, now: float) -> None:
    """As `count_attempt` and `report`, for all recipients, with one reply."""
    seconds = now - job.accepted_at
    recipients = job.recipients
    for _ in recipients:
        _delivered()
        _delivered_seconds(seconds)
    log_event(
        Event(
            kind="delivered",
            at=now,
            mail_id=job.mail_id,
            job_id=job.id,
            recipients=tuple([recipient.address for recipient in recipients]),
            destination=job.destination,
            reply=str(reply),
            attempt=job.attempt + 1,
            queue_seconds=seconds,
        )
    )


def report(job: DeliveryJob, decision: Decision, now: float) -> None:
    """Tell about a decision once custody has moved."""
    seconds = now - job.accepted_at
    if decision.delivered:
        for _ in decision.delivered:
            _delivered_seconds(seconds)
        _log("delivered", job, decision.delivered, now)
    if decision.uncertain:
        _report_uncertain(job, decision, now, seconds)
    if decision.retry is not None:
        metrics.retries.labels(format_duration(decision.delay_ms)).inc()
    if decision.deferred:
        _log("deferred", job, decision.deferred, now)
    for recipient, failed in decision.failed:
        _failures[failed.reason]()
        _failed_seconds(seconds)
        kind = "expired" if failed.reason == "expired" else "failed"
        _log(kind, job, ((recipient, failed.reply),), now, failed.reason)


def _report_uncertain(job: DeliveryJob, decision: Decision, now: float, seconds: float) -> None:
    metrics.uncertain_outcomes.labels(decision.policy.value).inc(len(decision.uncertain))
    if decision.policy is Uncertain.SENT:
        for _ in decision.uncertain:
            _delivered_seconds(seconds)
    _log("uncertain", job, decision.uncertain, now, decision.policy.value)


def _log(
    kind: str,
    job: DeliveryJob,
    recipients: Sequence[tuple[Recipient, Reply]],
    now: float,
    reason: str = "",
) -> None:
    log_event(
        Event(
            kind=kind,
            at=now,
            mail_id=job.mail_id,
            job_id=job.id,
            recipients=tuple(recipient.address for recipient, _ in recipients),
            destination=job.destination,
            reply=str(recipients[0][1]),
            reason=reason,
            attempt=job.attempt + 1,
            queue_seconds=now - job.accepted_at,
        )
    )
