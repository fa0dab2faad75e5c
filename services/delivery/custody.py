"""What is published when a job's attempt is over (pure): retries, notifications, parked jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from services.delivery.decide import Decision
from shared.broker.interface import Outgoing, ParkReason
from shared.broker.parking import parking_headers
from shared.broker.topology import ACCEPTED, DUE, PARKED
from shared.mail.delays import tell_of_delay
from shared.mail.dsn import Action, Report, ReportedMail, notification
from shared.mail.notify import wants
from shared.messages.codec import encode
from shared.messages.ids import job_id
from shared.messages.model import DeliveryJob, Recipient
from shared.settings.model import DeliverySettings
from shared.settings.sending import Uncertain
from shared.smtp.parameters import Notify
from shared.smtp.replies import Reply


@dataclass(frozen=True, slots=True)
class Successors:
    """`ended` tells that nothing holds the job's content any more; `told` what a DSN tells."""

    messages: tuple[Outgoing, ...]
    ended: bool
    told: frozenset[str] = frozenset()
    parked: tuple[ParkReason, ...] = ()


_NOTHING = Successors((), ended=False)
_NO_TURN = Reply(451, "4.3.2", "The limits of the site have left no time for this mail so far")


def successors(
    job: DeliveryJob, queue: str, decision: Decision, content: bytes, *, now: float, hostname: str
) -> Successors:
    """Everything that takes over from `job`; empty when all recipients were delivered."""
    parked = to_park(job, decision)
    # Each job that comes of this one holds an equal part of its share, so that none of them ends
    # the content of another.
    heirs = len(parked) + (decision.retry is not None)
    share = job.share * max(heirs, 1)
    messages: list[Outgoing] = []
    if decision.retry is not None:
        body = encode(msgspec.structs.replace(decision.retry, share=share))
        messages.append(Outgoing(DUE, body, job.id, delay_ms=decision.delay_ms))
    reports = reports_of(job, decision)
    if reports:
        messages.append(_notification(job, reports, content, now, hostname))
    for reason, those in parked.items():
        messages.append(_parked(job, queue, reason, those, share))
    told = frozenset(report.action.value for report in reports)
    return Successors(tuple(messages), heirs == 0, told, tuple(parked))


def told_to_wait(
    job: DeliveryJob, content: bytes, *, now: float, hostname: str, settings: DeliverySettings
) -> tuple[DeliveryJob, Successors]:
    """The job as it waits for its turn, and what its sender is told of that, once, if he asked.

    No attempt was made, so none is counted; the id is not that of an attempt's notification.
    """
    if job.dsn is None and job.deliver_by is None:
        return job, _NOTHING
    pairs = [(who, _NO_TURN) for who in job.recipients]
    waiting, asked = tell_of_delay(job, pairs, now, settings.delay_notice)
    if not asked:
        return waiting, _NOTHING
    until = job.accepted_at + settings.max_age / 1000
    reports = [Report(who, Action.DELAYED, why, until) for who, why in asked]
    message = _notification(job, reports, content, now, hostname, kind="dsn of a wait")
    return waiting, Successors((message,), ended=False, told=frozenset({Action.DELAYED.value}))


def reports_of(job: DeliveryJob, decision: Decision) -> Sequence[Report]:
    """What the sender is told; nothing where the reverse-path is null (RFC 5321, 6.1)."""
    if not job.reverse_path:
        return ()
    failed = [
        Report(who, Action.FAILED, failed.reply)
        for who, failed in decision.failed
        if wants(who, Notify.FAILURE)
    ]
    delayed = [Report(who, Action.DELAYED, why, decision.until) for who, why in decision.delayed]
    relayed = [Report(who, Action.RELAYED, reply) for who, reply in decision.relayed]
    return [*failed, *delayed, *relayed]


def to_park(
    job: DeliveryJob, decision: Decision
) -> dict[ParkReason, Sequence[tuple[Recipient, Reply]]]:
    """Which recipients are parked, and why."""
    parked: dict[ParkReason, Sequence[tuple[Recipient, Reply]]] = {}
    if decision.failed and not job.reverse_path:
        # A notification that fails is never answered by another (RFC 5321, 6.1).
        parked[ParkReason.DSN_FAILED] = [(who, failed.reply) for who, failed in decision.failed]
    if decision.uncertain and decision.policy is Uncertain.HOLD:
        parked[ParkReason.UNCERTAIN] = decision.uncertain
    return parked


def _notification(
    job: DeliveryJob,
    reports: Sequence[Report],
    content: bytes,
    now: float,
    hostname: str,
    *,
    kind: str = "dsn",
) -> Outgoing:
    dsn = notification(
        dsn_id=job_id(job.id, kind, job.attempt),
        now=now,
        hostname=hostname,
        mail=ReportedMail.of(job, content),
        reports=reports,
    )
    return Outgoing(ACCEPTED, encode(dsn), dsn.id)


def _parked(
    job: DeliveryJob,
    queue: str,
    reason: ParkReason,
    those: Sequence[tuple[Recipient, Reply]],
    share: int,
) -> Outgoing:
    """A job of its own, so that it can be sent again beside what became of the others."""
    recipients = tuple(recipient for recipient, _ in those)
    parked = msgspec.structs.replace(
        job, id=job_id(job.id, reason, job.attempt), recipients=recipients, share=share
    )
    headers = parking_headers({}, queue, reason, str(those[0][1]))
    return Outgoing(PARKED, encode(parked), parked.id, headers=headers)
