"""Counts and logs the outcomes of an attempt: one line for each kind of outcome."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import msgspec

from services.delivery.custody import Successors
from services.delivery.decide import Decision
from shared import metrics
from shared.broker.topology import ACCEPTED, PARKED
from shared.logs import log_event, log_parked
from shared.messages.model import DeliveryJob, Event, MessageClass, Recipient
from shared.messages.outcome import Deferred, Delivered, Failed, Outcome, Unknown
from shared.plan.names import normal_domain
from shared.settings.sending import Uncertain
from shared.settings.shaping import OTHER_PROVIDER
from shared.settings.units import format_duration
from shared.smtp.replies import Reply
from shared.tally import Count

_KINDS = (Delivered, Deferred, Failed, Unknown)
_URGENT = MessageClass.TRANSACTIONAL


def _by_outcome(child: Callable[[str], Count]) -> Mapping[type[Outcome], Count]:
    return {kind: child(kind.__name__.lower()) for kind in _KINDS}


class _Provider:
    """The counters of one provider."""

    __slots__ = ("attempts", "delivered", "failures", "octets")

    def __init__(self, name: str) -> None:
        self.attempts = _by_outcome(partial(metrics.delivery_attempts.labels, name))
        self.delivered = self.attempts[Delivered].inc
        self.octets = metrics.delivery_bytes.labels(name).inc
        self.failures = {
            reason: metrics.failures.labels(name, reason).inc for reason in metrics.FAILURE_REASONS
        }


class _Seconds:
    """The ages of one message class, by final outcome."""

    __slots__ = ("delivered", "expired", "failed", "parked")

    def __init__(self, message_class: MessageClass) -> None:
        name = message_class.value
        self.delivered, self.failed, self.expired, self.parked = (
            metrics.queue_seconds.labels(name, outcome).observe
            for outcome in metrics.FINAL_OUTCOMES
        )


class Report:
    """For these providers, and single `domains` if there are any, by their normal names."""

    def __init__(self, providers: Collection[str], domains: Collection[str]) -> None:
        self._providers = {name: _Provider(name) for name in (*providers, OTHER_PROVIDER)}
        self._other = self._providers[OTHER_PROVIDER]
        self._domains = {
            domain: _by_outcome(partial(metrics.domain_attempts.labels, domain))
            for domain in map(normal_domain, domains)
        }
        self._urgent, self._bulk = _Seconds(_URGENT), _Seconds(MessageClass.BULK)

    def _seconds(self, job: DeliveryJob) -> _Seconds:
        return self._urgent if job.message_class is _URGENT else self._bulk

    def attempted(self, job: DeliveryJob, outcomes: Sequence[Outcome]) -> None:
        """Count an attempt: one for each recipient."""
        provider = self._providers.get(job.provider, self._other)
        for outcome in outcomes:
            provider.attempts[type(outcome)].inc()
        if Delivered in map(type, outcomes):
            provider.octets(job.content.size)
        if self._domains:
            self._count_domains(job, outcomes)

    def _count_domains(self, job: DeliveryJob, outcomes: Sequence[Outcome]) -> None:
        for recipient, outcome in zip(job.recipients, outcomes, strict=True):
            domain = normal_domain(recipient.address.rpartition("@")[2])
            counts = self._domains.get(domain)
            if counts is not None:
                counts[type(outcome)].inc()

    def delivered(self, job: DeliveryJob, outcomes: Sequence[Delivered], now: float) -> None:
        """As `attempted` and `decided`, for all recipients, with one reply."""
        recipients = job.recipients
        count = len(recipients)
        provider = self._providers.get(job.provider, self._other)
        provider.delivered(count)
        provider.octets(job.content.size)
        seconds = now - job.accepted_at
        self._seconds(job).delivered(seconds, count)
        _exemplify(job, "delivered", seconds, now)
        if self._domains:
            self._count_domains(job, outcomes)
        log_event(
            Event(
                kind="delivered",
                at=now,
                mail_id=job.mail_id,
                job_id=job.id,
                recipients=tuple([recipient.address for recipient in recipients]),
                destination=job.destination,
                reply=str(outcomes[0].reply),
                attempt=job.attempt + 1,
                queue_seconds=seconds,
                trace_id=job.trace_id,
            )
        )

    def decided(self, job: DeliveryJob, decision: Decision, now: float) -> None:
        """Tell about a decision once custody has moved."""
        age = now - job.accepted_at
        seconds = self._seconds(job)
        if decision.delivered:
            seconds.delivered(age, len(decision.delivered))
            _exemplify(job, "delivered", age, now)
            _log("delivered", job, decision.delivered, now)
        if decision.uncertain:
            self._uncertain(job, decision, now)
        if decision.retry is not None:
            metrics.retries.labels(format_duration(decision.delay_ms), decision.cause).inc()
        if decision.deferred:
            _log("deferred", job, decision.deferred, now)
        provider = self._providers.get(job.provider, self._other)
        for recipient, failed in decision.failed:
            expired = failed.reason == "expired"
            provider.failures[failed.reason]()
            (seconds.expired if expired else seconds.failed)(age)
            kind = "expired" if expired else "failed"
            _exemplify(job, kind, age, now)
            _log(kind, job, ((recipient, failed.reply),), now, failed.reason)

    def followed(self, job: DeliveryJob, following: Successors, now: float) -> None:
        """Tell about notification and parked jobs once they are durable."""
        reasons = iter(following.parked)
        for message in following.messages:
            if message.queue == ACCEPTED:
                dsn = Event("dsn", now, job.mail_id, message.message_id, trace_id=job.trace_id)
                log_event(dsn)
            elif message.queue == PARKED:
                parked = msgspec.structs.replace(job, id=message.message_id)
                log_parked(parked.id, next(reasons).value, "", now, parked)

    def _uncertain(self, job: DeliveryJob, decision: Decision, now: float) -> None:
        count, age = len(decision.uncertain), now - job.accepted_at
        metrics.uncertain_outcomes.labels(decision.policy.value).inc(count)
        if decision.policy is Uncertain.SENT:
            self._seconds(job).delivered(age, count)
            _exemplify(job, "delivered", age, now)
        elif decision.policy is Uncertain.HOLD:
            self._seconds(job).parked(age, count)
            _exemplify(job, "parked", age, now)
        _log("uncertain", job, decision.uncertain, now, decision.policy.value)


def _exemplify(job: DeliveryJob, outcome: str, age: float, now: float) -> None:
    if job.traceparent:
        metrics.exemplify_age(job.message_class, outcome, age, job.trace_id, now)


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
            trace_id=job.trace_id,
        )
    )
