"""From one mail (or a job that is due again) to the jobs that deliver it (pure).

Ids are derived, so that a redelivered predecessor yields the same jobs; each job's share of the
mail's blob is fixed here (see ARCHITECTURE.md, how blobs end).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from services.router.routing import Postponed, Route, Undeliverable, Way
from shared.mail.delays import Waiting, tell_of_delay
from shared.messages.ids import job_id
from shared.messages.model import AcceptedMail, DeliveryJob, Recipient
from shared.smtp.replies import Reply

Failure = tuple[Recipient, Undeliverable]
NOWHERE = Route("", ())


@dataclass(slots=True)
class Split:
    """What becomes of the recipients of one message.

    `failures` are reported by a notification; those of the null reverse-path go into `parked`,
    which waits for a person and keeps its share of the blob. Of `delayed` the sender is told.
    """

    jobs: list[DeliveryJob] = field(default_factory=list)
    postponed: list[tuple[DeliveryJob, Reply]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    parked: DeliveryJob | None = None
    delayed: Waiting = ()

    @property
    def needs_content(self) -> bool:
        """Whether a notification will quote the mail."""
        return bool((self.failures and self.parked is None) or self.delayed)


def first_job(mail: AcceptedMail) -> DeliveryJob:
    """The whole mail as a job that has not been split and goes nowhere yet."""
    return DeliveryJob(
        id=mail.id,
        mail_id=mail.id,
        accepted_at=mail.accepted_at,
        reverse_path=mail.reverse_path,
        recipients=mail.recipients,
        content=mail.content,
        destination="",
        exchangers=(),
        tenant=mail.tenant,
        message_class=mail.message_class,
        eight_bit=mail.eight_bit,
        smtputf8=mail.smtputf8,
        dsn=mail.dsn,
        binary=mail.binary,
        deliver_by=mail.deliver_by,
        traceparent=mail.traceparent,
        require_tls=mail.require_tls,
        schema=mail.schema,
    )


def split(parent: DeliveryJob, ways: Sequence[Way]) -> Split:
    """Group the recipients of `parent`, each of which has its way, in jobs of `Route.most`."""
    if len(ways) == 1 and isinstance(ways[0], Route):  # nearly every mail
        return Split([_job(parent, ways[0], 0, parent.recipients, 1)])
    result = Split()
    groups: dict[str, tuple[Route | Postponed, list[Recipient]]] = {}
    for recipient, way in zip(parent.recipients, ways, strict=True):
        if isinstance(way, Undeliverable):
            result.failures.append((recipient, way))
        elif way.key in groups:
            groups[way.key][1].append(recipient)
        else:
            groups[way.key] = way, [recipient]
    chunks = [
        (way, number, tuple(recipients[at : at + way.most]))
        for way, recipients in groups.values()
        for number, at in enumerate(range(0, len(recipients), way.most))
    ]
    # RFC 5321, 6.1: nothing is sent back to the null reverse-path.
    parks = bool(result.failures) and not parent.reverse_path
    parts = len(chunks) + parks
    for way, number, chunk in chunks:
        if isinstance(way, Postponed):
            waiting = _job(parent, Route(way.domain, (), site=way.domain), number, chunk, parts)
            result.postponed.append((waiting, way.reply))
        else:
            result.jobs.append(_job(parent, way, number, chunk, parts))
    if parks:
        failed = tuple(recipient for recipient, _ in result.failures)
        result.parked = _job(parent, NOWHERE, 0, failed, parts)
    return result


def tell_of_delays(parts: Split, now: float, notice_ms: int) -> None:
    """Note whom of `postponed` the sender is to be told now (see `shared.mail.delays`)."""
    for number, (job, reply) in enumerate(parts.postponed):
        waiting = [(recipient, reply) for recipient in job.recipients]
        job, told = tell_of_delay(job, waiting, now, notice_ms)
        parts.postponed[number] = job, reply
        parts.delayed += told


def _job(
    parent: DeliveryJob, route: Route, number: int, recipients: tuple[Recipient, ...], parts: int
) -> DeliveryJob:
    # A job that comes back whole stays the same job, wherever it goes now.
    keeps_id = parts == 1 and parent.destination != ""
    addresses = [recipient.address for recipient in recipients]
    return msgspec.structs.replace(
        parent,
        id=parent.id if keeps_id else job_id(parent.id, route.key, number, *addresses),
        recipients=recipients,
        destination=route.destination,
        exchangers=route.exchangers,
        static=route.static,
        authentic=parent.require_tls and route.authentic,
        site=route.site,
        provider=route.provider,
        share=parent.share * parts,
    )
