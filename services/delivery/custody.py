"""What is published when a job's attempt is over (pure): retries, notifications, parked jobs."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from services.delivery.decide import Decision
from shared.broker.interface import Outgoing, ParkReason
from shared.broker.parking import parking_headers
from shared.broker.topology import ACCEPTED, DUE, PARKED
from shared.mail.dsn import ReportedMail, failure_dsn
from shared.mail.headers import header_section
from shared.messages.codec import encode
from shared.messages.ids import job_id
from shared.messages.model import DeliveryJob

HEADERS_LIMIT = 32_768


@dataclass(frozen=True, slots=True)
class Successors:
    """`ended` tells that nothing holds the job's content any more."""

    messages: tuple[Outgoing, ...]
    ended: bool
    dsn: bool = False
    parked: bool = False


def successors(
    job: DeliveryJob, queue: str, decision: Decision, content: bytes, *, now: float, hostname: str
) -> Successors:
    """Everything that takes over from `job`; empty when all recipients were delivered."""
    messages: list[Outgoing] = []
    parked = bool(decision.failed) and not job.reverse_path
    dsn = bool(decision.failed) and not parked
    if parked and decision.retry is not None:
        # Two jobs come of one: each holds half of its share, so neither ends the other's content.
        job = msgspec.structs.replace(job, share=job.share * 2)
    if decision.retry is not None:
        body = encode(msgspec.structs.replace(decision.retry, share=job.share))
        messages.append(Outgoing(DUE, body, job.id, delay_ms=decision.delay_ms))
    if dsn:
        messages.append(_notification(job, decision, content, now, hostname))
    elif parked:
        messages.append(_parked(job, queue, decision))
    ended = decision.retry is None and not parked
    return Successors(tuple(messages), ended, dsn, parked)


def _notification(
    job: DeliveryJob, decision: Decision, content: bytes, now: float, hostname: str
) -> Outgoing:
    mail = ReportedMail(
        job.mail_id,
        job.accepted_at,
        job.reverse_path,
        job.tenant,
        job.message_class,
        job.smtputf8,
        header_section(content, HEADERS_LIMIT),
    )
    dsn = failure_dsn(
        dsn_id=job_id(job.id, "dsn", job.attempt),
        now=now,
        hostname=hostname,
        mail=mail,
        failures=[(recipient, failed.reply) for recipient, failed in decision.failed],
    )
    return Outgoing(ACCEPTED, encode(dsn), dsn.id)


def _parked(job: DeliveryJob, queue: str, decision: Decision) -> Outgoing:
    """A notification that fails is never answered by another (RFC 5321, 6.1)."""
    recipients = tuple(recipient for recipient, _ in decision.failed)
    body = encode(msgspec.structs.replace(job, recipients=recipients))
    detail = str(decision.failed[0][1].reply)
    headers = parking_headers({}, queue, ParkReason.DSN_FAILED, detail)
    return Outgoing(PARKED, body, job.id, headers=headers)
