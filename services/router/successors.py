"""What the router publishes for one message (pure, but for the clock it is given).

Jobs go to their lane. Recipients without a way become a notification; of the null reverse-path, a
parked copy. What the DNS could not answer waits on the retry ladder until it is too old.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from services.router.routing import Undeliverable
from services.router.splitting import Split
from shared import metrics
from shared.broker.interface import Outgoing, ParkReason
from shared.broker.parking import parking_headers
from shared.broker.topology import ACCEPTED, DUE, PARKED, lane_queue
from shared.logs import clip, log_event
from shared.mail.dsn import ReportedMail, failure_dsn
from shared.mail.schedule import is_expired, next_delay_ms
from shared.messages.codec import encode
from shared.messages.ids import job_id
from shared.messages.model import DeliveryJob, Event, MessageClass, Recipient
from shared.settings.model import Settings
from shared.settings.units import format_duration
from shared.smtp.replies import Reply

LANE = "default"
_LANES = {kind: lane_queue(LANE, kind) for kind in MessageClass}
_count_routed = metrics.routed_jobs.inc
_count_dsn = metrics.dsns.labels("failed").inc
_count_parked = metrics.parked_messages.labels(ParkReason.DSN_FAILED.value).inc


@dataclass(frozen=True, slots=True)
class SuccessorSettings:
    """What of the configuration matters here."""

    hostname: str
    schedule: tuple[int, ...]
    max_age_ms: int

    @classmethod
    def of(cls, settings: Settings) -> SuccessorSettings:
        """Taken from the whole configuration."""
        delivery = settings.delivery
        return cls(settings.hostname, delivery.retry_schedule, delivery.max_age)


@dataclass(slots=True)
class Plan:
    """What to publish; `ended` are the jobs that go no further, whose share of the blob is free.

    `report` is due once everything is durable.
    """

    messages: list[Outgoing] = field(default_factory=list)
    reports: list[Callable[[], None]] = field(default_factory=list)
    ended: list[DeliveryJob] = field(default_factory=list)

    def report(self) -> None:
        """Count and log: custody has moved."""
        for report in self.reports:
            report()


class Successors:
    """Makes plans. `clock` gives epoch seconds."""

    def __init__(self, settings: SuccessorSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock

    def plan(self, parent: DeliveryJob, parts: Split, headers: bytes) -> Plan:
        """Everything that follows from one message; `headers` are its header lines, for a DSN."""
        plan = Plan()
        now = self._clock()
        failures = list(parts.failures)
        for job in parts.jobs:
            self._send(plan, job, now)
        for job, reply in parts.postponed:
            failures += self._postpone(plan, job, reply, now)
        if failures:
            self._notify(plan, parent, headers, failures, now)
        if len(plan.ended) == len(parts.jobs) + len(parts.postponed):
            plan.ended = [parent]
        return plan

    def _send(self, plan: Plan, job: DeliveryJob, now: float) -> None:
        plan.messages.append(Outgoing(_LANES[job.message_class], encode(job), job.id))
        event = Event(
            kind="routed",
            at=now,
            mail_id=job.mail_id,
            job_id=job.id,
            destination=job.destination,
            attempt=job.attempt,
        )
        plan.reports += (_count_routed, partial(log_event, event))

    def _postpone(
        self, plan: Plan, job: DeliveryJob, reply: Reply, now: float
    ) -> list[tuple[Recipient, Undeliverable]]:
        attempts = job.attempt + 1
        if is_expired(job.accepted_at, now, self._settings.max_age_ms, attempts):
            plan.ended.append(job)
            late = Reply(450, "4.4.7", f"Delivery time expired; last: {reply}")
            return [(recipient, Undeliverable(late, "expired")) for recipient in job.recipients]
        delay = next_delay_ms(self._settings.schedule, attempts)
        later = msgspec.structs.replace(job, attempt=attempts)
        plan.messages.append(Outgoing(DUE, encode(later), job.id, delay_ms=delay))
        event = _event("deferred", job, job.recipients, reply, now)
        retry = metrics.retries.labels(format_duration(delay))
        plan.reports += (retry.inc, partial(log_event, event))
        return []

    def _notify(
        self,
        plan: Plan,
        parent: DeliveryJob,
        headers: bytes,
        failures: list[tuple[Recipient, Undeliverable]],
        now: float,
    ) -> None:
        if parent.reverse_path:
            plan.messages.append(self._dsn(parent, headers, failures, now))
            plan.reports.append(_count_dsn)
        else:
            plan.messages.append(_parked(parent, failures))
            plan.reports.append(_count_parked)
        for recipient, failure in failures:
            event = _event(
                "failed", parent, (recipient,), failure.reply, now, reason=failure.reason
            )
            count = metrics.failures.labels(failure.reason)
            plan.reports += (count.inc, partial(log_event, event))

    def _dsn(
        self,
        parent: DeliveryJob,
        headers: bytes,
        failures: list[tuple[Recipient, Undeliverable]],
        now: float,
    ) -> Outgoing:
        dsn = failure_dsn(
            dsn_id=job_id(parent.id, "dsn", parent.attempt),
            now=now,
            hostname=self._settings.hostname,
            mail=ReportedMail(
                parent.mail_id,
                parent.accepted_at,
                parent.reverse_path,
                parent.tenant,
                parent.message_class,
                parent.smtputf8,
                headers,
            ),
            failures=[(recipient, failure.reply) for recipient, failure in failures],
        )
        return Outgoing(ACCEPTED, encode(dsn), dsn.id)


def _parked(parent: DeliveryJob, failures: list[tuple[Recipient, Undeliverable]]) -> Outgoing:
    # RFC 5321, 6.1: nothing is ever sent back to the null reverse-path.
    recipients = tuple(recipient for recipient, _ in failures)
    rest = msgspec.structs.replace(parent, recipients=recipients)
    detail = "; ".join(str(failure.reply) for _, failure in failures)
    headers = parking_headers({}, ACCEPTED, ParkReason.DSN_FAILED, detail)
    return Outgoing(PARKED, encode(rest), parent.id, headers=headers)


def _event(
    kind: str,
    job: DeliveryJob,
    recipients: tuple[Recipient, ...],
    reply: Reply,
    now: float,
    *,
    reason: str = "",
) -> Event:
    return Event(
        kind=kind,
        at=now,
        mail_id=job.mail_id,
        job_id=job.id,
        recipients=tuple(recipient.address for recipient in recipients),
        destination=job.destination,
        reply=clip(str(reply)),
        reason=reason,
        attempt=job.attempt,
        queue_seconds=now - job.accepted_at,
    )
