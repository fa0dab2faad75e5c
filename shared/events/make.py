"""Makes the events of jobs and mails (pure), from what is known anyway."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.events.model import NO_TIME, SCHEMA, Hop, MailEvent, Tls, event_id, shares
from shared.logs import clip
from shared.messages.model import AcceptedMail, DeliveryJob, Recipient

Pair = tuple[Recipient, str, str]
"""A recipient with reply and reason."""


def of_mail(mail: AcceptedMail, tls: str) -> list[MailEvent]:
    """That it was accepted, over a session with `tls`: version and cipher, or empty."""
    version, _, cipher = tls.partition(" ")
    session = Tls(version, cipher) if tls else None
    addresses = tuple([recipient.address for recipient in mail.recipients])
    return [
        MailEvent(
            schema=SCHEMA,
            event="accepted",
            id=event_id(mail.id, 0, "accepted", part),
            at=mail.accepted_at,
            mail_id=mail.id,
            tenant=mail.tenant,
            class_=mail.message_class.value,
            reverse_path=mail.reverse_path,
            recipients=those,
            octets=mail.content.size,
            tls=session,
        )
        for part, those in enumerate(shares(addresses))
    ]


def of_job(
    kind: str,
    job: DeliveryJob,
    now: float,
    lane: str,
    recipients: Sequence[Recipient] | None = None,
    *,
    attempt: int,
    reply: str = "",
    reason: str = "",
    hop: Hop | None = None,
    outcomes: dict[str, int] | None = None,
    attempt_seconds: float = NO_TIME,
    delay_seconds: float = NO_TIME,
    notification: str = "",
    part: int = 0,
) -> list[MailEvent]:
    """What happened to these recipients of a job, None: to all; `part` numbers the first event."""
    those = job.recipients if recipients is None else recipients
    addresses = tuple([recipient.address for recipient in those])
    return [
        MailEvent(
            schema=SCHEMA,
            event=kind,
            id=event_id(job.id, attempt, kind, number),
            at=now,
            mail_id=job.mail_id,
            tenant=job.tenant,
            class_=job.message_class.value,
            job_id=job.id,
            attempt=attempt,
            recipients=share,
            lane=lane,
            destination=job.destination,
            site=job.site,
            provider=job.provider,
            reply=clip(reply),
            reason=clip(reason),
            hop=hop,
            outcomes=outcomes or {},
            queue_seconds=now - job.accepted_at,
            attempt_seconds=attempt_seconds,
            delay_seconds=delay_seconds,
            notification=notification,
        )
        for number, share in enumerate(shares(addresses), part)
    ]


def alike(pairs: Iterable[Pair]) -> dict[tuple[str, str], list[Recipient]]:
    """The recipients with the same reply and reason: they are told of together."""
    groups: dict[tuple[str, str], list[Recipient]] = {}
    for recipient, reply, reason in pairs:
        groups.setdefault((reply, reason), []).append(recipient)
    return groups
