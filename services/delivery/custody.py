"""What is published when a job's attempt is over (pure): retries, notifications, parked jobs."""

from __future__ import annotations

from collections.abc import Sequence
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
from shared.messages.model import DeliveryJob, Recipient
from shared.settings.sending import Uncertain
from shared.smtp.replies import Reply

HEADERS_LIMIT = 32_768


@dataclass(frozen=True, slots=True)
class Successors:
    """`ended` tells that nothing holds the job's content any more."""

    messages: tuple[Outgoing, ...]
    ended: bool
    dsn: bool = False
    parked: tuple[ParkReason, ...] = ()


def successors(
    job: DeliveryJob, queue: str, decision: Decision, content: bytes, *, now: float, hostname: str
) -> Successors:
    """Everything that takes over from `job`; empty when all recipients were delivered."""
    parked = _to_park(job, decision)
    # Each job that comes of this one holds an equal part of its share, so that none of them ends
    # the content of another.
    heirs = len(parked) + (decision.retry is not None)
    share = job.share * max(heirs, 1)
    messages: list[Outgoing] = []
    if decision.retry is not None:
        body = encode(msgspec.structs.replace(decision.retry, share=share))
        messages.append(Outgoing(DUE, body, job.id, delay_ms=decision.delay_ms))
    dsn = bool(decision.failed and job.reverse_path)
    if dsn:
        messages.append(_notification(job, decision, content, now, hostname))
    for reason, those in parked.items():
        messages.append(_parked(job, queue, reason, those, share))
    return Successors(tuple(messages), heirs == 0, dsn, tuple(parked))


def _to_park(
    job: DeliveryJob, decision: Decision
) -> dict[ParkReason, Sequence[tuple[Recipient, Reply]]]:
    parked: dict[ParkReason, Sequence[tuple[Recipient, Reply]]] = {}
    if decision.failed and not job.reverse_path:
        # A notification that fails is never answered by another (RFC 5321, 6.1).
        parked[ParkReason.DSN_FAILED] = [(who, failed.reply) for who, failed in decision.failed]
    if decision.uncertain and decision.policy is Uncertain.HOLD:
        parked[ParkReason.UNCERTAIN] = decision.uncertain
    return parked


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
