"""From one mail (or a job that is due again) to the jobs that deliver it (pure).

Ids are derived, so that a redelivered predecessor yields the same jobs; each job's share of the
mail's blob is fixed here (see ARCHITECTURE.md, how blobs end).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from services.router.routing import MALFORMED, Postponed, Route, Undeliverable, Way, domain_of
from shared.messages.ids import job_id
from shared.messages.model import AcceptedMail, DeliveryJob, Recipient
from shared.smtp.replies import Reply

Failure = tuple[Recipient, Undeliverable]
NOWHERE = Route("", ())


@dataclass(slots=True)
class Split:
    """What becomes of the recipients of one message.

    `failures` are reported by a notification; those of the null reverse-path go into `parked`,
    which waits for a person and keeps its share of the blob.
    """

    jobs: list[DeliveryJob] = field(default_factory=list)
    postponed: list[tuple[DeliveryJob, Reply]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    parked: DeliveryJob | None = None

    @property
    def needs_headers(self) -> bool:
        """Whether a notification will quote the header section."""
        return bool(self.failures) and self.parked is None


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
    )


def domains_of(recipients: Sequence[Recipient]) -> set[str]:
    """The domains whose ways are needed."""
    domains = {domain_of(recipient.address) for recipient in recipients}
    return {domain for domain in domains if domain is not None}


def split(parent: DeliveryJob, ways: Mapping[str, Way]) -> Split:
    """Group the recipients of `parent` by destination, in jobs of at most `Route.most`."""
    result = Split()
    groups: dict[str, tuple[Route | Postponed, list[Recipient]]] = {}
    for recipient in parent.recipients:
        way = ways.get(domain_of(recipient.address) or "", MALFORMED)
        if isinstance(way, Undeliverable):
            result.failures.append((recipient, way))
        else:
            groups.setdefault(way.key, (way, []))[1].append(recipient)
    chunks = [
        (way, number, chunk)
        for way, recipients in groups.values()
        for number, chunk in enumerate(_chunks(recipients, way.most))
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


def _chunks(recipients: list[Recipient], size: int) -> list[tuple[Recipient, ...]]:
    return [tuple(recipients[at : at + size]) for at in range(0, len(recipients), size)]


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
        site=route.site,
        provider=route.provider,
        share=parent.share * parts,
    )
