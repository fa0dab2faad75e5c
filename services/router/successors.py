"""What the router publishes for one message (pure, but for the clock it is given).

Jobs go to their lane. Recipients without a way become a notification; of the null reverse-path, a
parked copy. What the DNS could not answer waits on the retry ladder until it is too old.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from services.router.routing import Undeliverable
from services.router.splitting import Failure, Split, tell_of_delays
from services.router.telling import deferred, dsn_id, nobody, told_of
from shared import metrics
from shared.broker.interface import Outgoing, ParkReason
from shared.broker.parking import parking_headers
from shared.broker.topology import ACCEPTED, DUE, PARKED, WAIT_STEPS_MS
from shared.events.model import MailEvent
from shared.logs import clip, log_event
from shared.mail.deadline import is_overdue, wait_before
from shared.mail.dsn import Action, Report, ReportedMail, notification
from shared.mail.notify import wants
from shared.mail.schedule import is_expired, next_delay_ms
from shared.messages.codec import encode
from shared.messages.model import DeliveryJob, Event, Recipient
from shared.plan.lanes import LanePlan
from shared.plan.providers import provider_names
from shared.settings.model import Settings
from shared.settings.shaping import OTHER_PROVIDER
from shared.settings.units import format_duration
from shared.smtp.parameters import Notify
from shared.smtp.replies import Reply

STORE_DOWN = Reply(451, "4.3.0", "The content store does not answer")

_count_routed = metrics.routed_jobs.inc
_dsns = {action: metrics.dsns.labels(action).inc for action in metrics.DSN_ACTIONS}
_count_parked = metrics.parked_messages.labels(ParkReason.DSN_FAILED.value).inc


@dataclass(frozen=True, slots=True)
class SuccessorSettings:
    """What of the configuration matters here. Durations in milliseconds."""

    hostname: str
    schedule: tuple[int, ...]
    max_age_ms: int
    notice_ms: int
    providers: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> SuccessorSettings:
        """Taken from the whole configuration."""
        delivery = settings.delivery
        return cls(
            settings.hostname,
            delivery.retry_schedule,
            delivery.max_age,
            delivery.delay_notice,
            frozenset(provider_names(settings.providers)),
        )


@dataclass(slots=True)
class Plan:
    """What to publish, and what to count, log and tell once it is durable.

    `ended` tells that nothing published holds the mail's blob any more.
    """

    messages: list[Outgoing] = field(default_factory=list)
    routed: int = 0
    counts: list[Callable[[], None]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    told: list[MailEvent] = field(default_factory=list)
    ended: bool = False

    def report(self) -> None:
        """Count and log: custody has moved."""
        if self.routed:
            _count_routed(self.routed)
        for count in self.counts:
            count()
        for event in self.events:
            log_event(event)


class Successors:
    """Makes plans. `lanes` tells where jobs belong; `clock` gives epoch seconds.

    `concerns` tells of whose mail events are wanted.
    """

    def __init__(
        self,
        settings: SuccessorSettings,
        lanes: LanePlan,
        clock: Callable[[], float],
        concerns: Callable[[str], bool] = nobody,
    ) -> None:
        self.lanes = lanes
        self._settings = settings
        self._clock = clock
        self._concerns = concerns

    def is_late(self, parent: DeliveryJob) -> bool:
        """Whether what cannot be routed now will not be tried again."""
        attempts = parent.attempt + 1
        return is_expired(parent.accepted_at, self._clock(), self._settings.max_age_ms, attempts)

    def is_overdue(self, parent: DeliveryJob) -> bool:
        """Whether no attempt may be made any more (RFC 2852)."""
        return is_overdue(parent.deliver_by, self._clock())

    def tell_of_delays(self, parts: Split) -> None:
        """Note who is told now that it takes long."""
        tell_of_delays(parts, self._clock(), self._settings.notice_ms)

    def plan(self, parent: DeliveryJob, parts: Split, content: bytes, queue: str) -> Plan:
        """Everything that follows from one message, which came from `queue`.

        `content` is for a notification: empty if none will be made, or if it cannot be had.
        """
        plan = Plan()
        now = self._clock()
        for job in parts.jobs:
            self._send(plan, job, now)
        for job, reply in parts.postponed:
            later = msgspec.structs.replace(job, attempt=job.attempt + 1)
            self._wait(plan, later, later.attempt, reply, now)
        if parts.parked is not None:
            _park(plan, parts.parked, parts.failures, queue, now)
        elif parts.failures or parts.delayed:
            self._notify(plan, parent, parts, content, now)
        for recipient, failure in parts.failures:
            self._give_up(plan, parent, recipient, failure, now)
        if self._concerns(parent.tenant):
            plan.told += told_of(parent, parts, self.lanes, now)
        plan.ended = not (parts.jobs or parts.postponed or parts.parked)
        return plan

    def wait_for_store(self, parent: DeliveryJob) -> Plan:
        """The message as it is, a little later: no attempt of the mail, so none is counted."""
        plan = Plan()
        self._wait(plan, parent, 1, STORE_DOWN, self._clock())
        return plan

    def _send(self, plan: Plan, job: DeliveryJob, now: float) -> None:
        plan.messages.append(Outgoing(self.lanes.place(job).queue, encode(job), job.id))
        plan.routed += 1
        plan.events.append(
            Event(
                kind="routed",
                at=now,
                mail_id=job.mail_id,
                job_id=job.id,
                destination=job.destination,
                site=job.site,
                attempt=job.attempt,
                trace_id=job.trace_id,
            )
        )

    def _wait(self, plan: Plan, job: DeliveryJob, attempt: int, reply: Reply, now: float) -> None:
        reason = "store" if reply is STORE_DOWN else "dns"
        schedule = self._settings.schedule
        delay = next_delay_ms(schedule, attempt)
        delay = wait_before(job.deliver_by, delay, now, (*schedule, *WAIT_STEPS_MS))
        plan.messages.append(Outgoing(DUE, encode(job), job.id, delay_ms=delay))
        plan.counts.append(metrics.retries.labels(format_duration(delay), reason).inc)
        plan.events.append(_event("deferred", job, job.recipients, reply, now))
        if self._concerns(job.tenant):
            plan.told += deferred(job, str(reply), reason, delay, now)

    def _notify(
        self, plan: Plan, parent: DeliveryJob, parts: Split, content: bytes, now: float
    ) -> None:
        until = parent.accepted_at + self._settings.max_age_ms / 1000
        reports = [
            Report(recipient, Action.FAILED, failure.reply)
            for recipient, failure in parts.failures
            if wants(recipient, Notify.FAILURE)
        ]
        reports += [Report(who, Action.DELAYED, reply, until) for who, reply in parts.delayed]
        if not reports:
            return
        dsn = notification(
            dsn_id=dsn_id(parent),
            now=now,
            hostname=self._settings.hostname,
            mail=ReportedMail.of(parent, content),
            reports=reports,
        )
        plan.messages.append(Outgoing(ACCEPTED, encode(dsn), dsn.id))
        plan.counts += [_dsns[action] for action in {report.action.value for report in reports}]
        event = Event("dsn", now, parent.mail_id, dsn.id, trace_id=parent.trace_id)
        plan.events.append(event)

    def _give_up(
        self, plan: Plan, job: DeliveryJob, recipient: Recipient, failure: Undeliverable, now: float
    ) -> None:
        reason = failure.reason
        kind = "expired" if reason == "expired" else "failed"
        provider = job.provider if job.provider in self._settings.providers else OTHER_PROVIDER
        age = metrics.queue_seconds.labels(job.message_class.value, kind).observe
        plan.counts.append(metrics.failures.labels(provider, reason).inc)
        seconds = now - job.accepted_at
        plan.counts.append(partial(age, seconds))
        if job.traceparent:
            example = (job.message_class, kind, seconds, job.trace_id, now)
            plan.counts.append(partial(metrics.exemplify_age, *example))
        plan.events.append(_event(kind, job, (recipient,), failure.reply, now, reason=reason))


def _park(
    plan: Plan, job: DeliveryJob, failures: Sequence[Failure], queue: str, now: float
) -> None:
    detail = "; ".join(str(failure.reply) for _, failure in failures)
    headers = parking_headers({}, queue, ParkReason.DSN_FAILED, detail)
    plan.messages.append(Outgoing(PARKED, encode(job), job.id, headers=headers))
    reply, reason = failures[0][1].reply, ParkReason.DSN_FAILED.value
    plan.counts.append(_count_parked)
    plan.events.append(_event("parked", job, job.recipients, reply, now, reason=reason))


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
        site=job.site,
        reply=clip(str(reply)),
        reason=reason,
        attempt=job.attempt,
        queue_seconds=now - job.accepted_at,
        trace_id=job.trace_id,
    )
