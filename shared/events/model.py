"""What is told of a mail while it is on its way (pure): one event, with a versioned schema.

`docs/events.md` is written from this module. Fields are only ever added, each with a default, and
what equals its default is left out. `SCHEMA` is raised when the meaning of a field changes: a
reader leaves out what it does not know, and refuses a newer schema.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

SCHEMA = 1
"""The schema that this version writes, and the newest that it reads."""

NO_TIME = 0.0
"""No seconds: this very object is left out of what is written."""
MOST_RECIPIENTS = 100
"""In one event; what happened to more of them at a time is told in several."""

KINDS = {
    "accepted": "Ingress answered 250: the mail is in our custody.",
    "routed": "The router made a job of recipients that go one way, and put it into a lane.",
    "attempted": "A worker has made an attempt with a job; the outcomes follow.",
    "delivered": "The next hop took the mail for these recipients.",
    "deferred": "Not now: it is tried again after `delay_seconds`.",
    "uncertain": "The receiver was lost after the content: it was perhaps delivered. `reason` is "
    "what is done, see `delivery.uncertain`.",
    "bounced": "Given up, since the next hop or the DNS said no for good.",
    "expired": "Given up, since it took too long.",
    "parked": "Put into the parking queue, where a person decides.",
    "throttled": "The job waits `delay_seconds`, since the limits of its site leave no room now; "
    "no attempt was made.",
}
"""Every kind of event, in the order in which a mail may meet them, and what it means."""


class Tls(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What protected a connection."""

    version: Annotated[str, Meta(description="Such as `TLSv1.3`.")]
    cipher: Annotated[str, Meta(description="Its name in OpenSSL.")]
    resumed: Annotated[bool, Meta(description="No full handshake was made.")] = False


class Hop(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The next hop that was spoken to last in an attempt."""

    host: Annotated[str, Meta(description="Its name, or its address where it has none.")]
    address: Annotated[str, Meta(description="IP address.")]
    port: Annotated[int, Meta(description="TCP port.")]
    tls: Annotated[Tls | None, Meta(description="Absent in clear text.")] = None


class MailEvent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """One thing that happened to a mail."""

    schema: Annotated[int, Meta(description="Version of this schema.")]
    event: Annotated[str, Meta(description="What happened: one of the kinds below.")]
    id: Annotated[
        str,
        Meta(description="Of this event. One that is told twice has the same id."),
    ]
    at: Annotated[float, Meta(description="When, in seconds since the epoch.")]
    mail_id: Annotated[str, Meta(description="Of the mail: what `250 ... queued as` told.")]
    tenant: Annotated[str, Meta(description="Whose mail it is.")]
    class_: Annotated[str, Meta(description="`transactional` or `bulk`.")] = msgspec.field(
        name="class"
    )
    job_id: Annotated[str, Meta(description="Of the job; absent before it is routed.")] = ""
    attempt: Annotated[int, Meta(description="Number of the attempt, from 1; 0 before.")] = 0
    reverse_path: Annotated[
        str, Meta(description="Of MAIL; in `accepted` only. Absent: the null reverse-path.")
    ] = ""
    recipients: Annotated[
        tuple[str, ...],
        Meta(description=f"To whom it happened, at most {MOST_RECIPIENTS} in one event."),
    ] = ()
    octets: Annotated[int, Meta(description="Of the content; in `accepted` only.")] = 0
    lane: Annotated[str, Meta(description="Whose workers send it.")] = ""
    destination: Annotated[str, Meta(description="Domain, or hosts of a static route.")] = ""
    site: Annotated[str, Meta(description="Where the destination really is.")] = ""
    provider: Annotated[str, Meta(description="Of the site, or `other`.")] = ""
    reply: Annotated[
        str,
        Meta(description="What the next hop said last, or we in its place. Text of strangers."),
    ] = ""
    reason: Annotated[
        str, Meta(description="Why: a class of reason as in docs/metrics.md, or a policy.")
    ] = ""
    outcomes: Annotated[
        dict[str, int], Meta(description="Of `attempted`: how many recipients had which outcome.")
    ] = {}
    hop: Annotated[Hop | None, Meta(description="With whom; absent where nobody was reached.")] = (
        None
    )
    tls: Annotated[Tls | None, Meta(description="In `accepted`: of the client's session.")] = None
    queue_seconds: Annotated[float, Meta(description="Since the mail was accepted.")] = NO_TIME
    attempt_seconds: Annotated[
        float, Meta(description="From the begin of the attempt, with connecting, to its end.")
    ] = NO_TIME
    delay_seconds: Annotated[float, Meta(description="Until it comes again.")] = NO_TIME
    notification: Annotated[
        str, Meta(description="Id of the mail by which the sender is told; it has its own events.")
    ] = ""


def event_id(of: str, attempt: int, kind: str, part: int = 0) -> str:
    """The same whenever the same thing is told again: `of` is the id of a mail or a job."""
    return f"{of}.{attempt}.{kind}.{part}" if part else f"{of}.{attempt}.{kind}"


def shares(recipients: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The recipients as several events tell them; of none, one event all the same."""
    if len(recipients) <= MOST_RECIPIENTS:
        return [recipients]
    starts = range(0, len(recipients), MOST_RECIPIENTS)
    return [recipients[start : start + MOST_RECIPIENTS] for start in starts]
