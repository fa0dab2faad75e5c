"""Mail that no network may read: what RFC 8689, 4.2.1, asks of its next hops (pure).

A notification of such mail, with the null reverse-path, has headers only and is not lost where a
next hop cannot promise as much (5): it goes there as other mail does.
"""

from __future__ import annotations

from collections.abc import Hashable

from shared.messages.model import DeliveryJob
from shared.messages.outcome import Failed
from shared.smtp.replies import Reply

REASON = "tls"
"""Of FAILURE_REASONS and RETRY_REASONS."""
NEEDS_REQUIRETLS = Reply(550, "5.7.30", "REQUIRETLS support required")
NOT_AUTHENTIC = Failed(
    Reply(
        550,
        "5.7.10",
        "Encryption needed: DNSSEC does not say whose the mail exchangers of the domain are",
    ),
    REASON,
)


def is_secret(job: DeliveryJob) -> bool:
    """Whether the job may only go to a next hop that was verified and offers REQUIRETLS."""
    return job.require_tls and job.reverse_path != ""


def unsupported(where: str) -> Failed:
    """The host at `where` is what it says, and promises nothing."""
    return Failed(
        Reply(550, "5.7.30", f"{NEEDS_REQUIRETLS.text}; {where} does not offer it"), REASON
    )


def unencrypted(where: str, why: str) -> Failed:
    """There is no session with `where` that could be relied on."""
    return Failed(Reply(550, "5.7.10", f"Encryption needed: {where}: {why}"), REASON)


def connections_of(job: DeliveryJob) -> Hashable:
    """Which idle connections may take a job: with `require_tls` never those of other mail."""
    hosts = (job.static, frozenset(job.exchangers))
    return (hosts, job.authentic, is_secret(job)) if job.require_tls else hosts
