"""What travels through the queues: accepted mail and delivery jobs, as frozen Structs.

Fields are only ever added, each with a default, so that old and new processes read each other's
messages while a new version is rolled out. What equals its default is left out, so a default is for
ever. A change that an old process could not ignore raises `SCHEMA`, for the messages that make use
of it; the old process then parks what it cannot read.
"""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction

import msgspec

PLAIN = 1
"""The schema version that every release reads."""
DEMANDING = 2
"""That of a message with `binary` or `deliver_by`, which must not be overlooked: a binary content
would go out as lines, and what was to be returned in time would be tried for days."""
SECRET = 3
"""That of a message with `require_tls`: who overlooks it sends the mail in clear text."""
SCHEMA = 3
"""The newest schema version this code reads."""

EMPTY = memoryview(b"")


class MessageClass(StrEnum):
    """How urgent a mail is: transactional mail never waits behind bulk."""

    TRANSACTIONAL = "transactional"
    BULK = "bulk"


class Content(msgspec.Struct, frozen=True):
    """The bytes after DATA, dot-unstuffed, CRLF line ends: inside the message or named by `blob`.

    `inline` is a view into the broker message it came with: nothing is copied on the way.
    `size` counts octets. `blob` is a name in the content store; empty means inline.
    """

    size: int
    inline: memoryview = EMPTY
    blob: str = ""


class Recipient(msgspec.Struct, frozen=True, omit_defaults=True):
    """One forward-path as the client sent it, without angle brackets or source route.

    `notify` and `orcpt` are the parameters of RCPT (RFC 3461, 4.1 and 4.2): `NEVER`, or what was
    asked for; and the address type with the original address in xtext.
    """

    address: str
    notify: str = ""
    orcpt: str = ""


class DsnWishes(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parameters of MAIL (RFC 3461, 4.3 and 4.4): `FULL`, `HDRS` or nothing; ENVID in xtext.

    `told_of_delay`: the notification of a delay was sent.
    """

    ret: str = ""
    envid: str = ""
    told_of_delay: bool = False


class DeliverBy(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parameter BY of MAIL (RFC 2852). `deadline` is in seconds since the epoch.

    `returns`: mode R, no attempt is made after it; else mode N, the sender is told of a delay.
    `traced`: he is told whenever the mail was relayed. `told`: he was told that it is late.
    """

    deadline: float
    returns: bool = False
    traced: bool = False
    told: bool = False


class MailExchanger(msgspec.Struct, frozen=True):
    """A host to try; lower preference first, equal ones in random order (RFC 5321, 5.1).

    `host` is a name or an address; `port` 0 means the configured SMTP port.
    """

    preference: int
    host: str
    port: int = 0


class AcceptedMail(
    msgspec.Struct, frozen=True, omit_defaults=True, tag="accepted", tag_field="type"
):
    """One SMTP transaction that was answered 250: every recipient, one broker message.

    `accepted_at` is seconds since the epoch. An empty `reverse_path` is the null reverse-path.
    `dsn` is None while nobody has asked for anything special. A `binary` content has no lines, and
    goes on as BINARYMIME only (RFC 3030, 3). `traceparent` (W3C Trace Context) names the span that
    caused this message; empty if its trace is not recorded. `require_tls`: it may go on only as RFC
    8689 says.
    """

    id: str
    accepted_at: float
    reverse_path: str
    recipients: tuple[Recipient, ...]
    content: Content
    tenant: str = "default"
    message_class: MessageClass = MessageClass.TRANSACTIONAL
    eight_bit: bool = False
    smtputf8: bool = False
    dsn: DsnWishes | None = None
    binary: bool = False
    deliver_by: DeliverBy | None = None
    traceparent: str = ""
    require_tls: bool = False
    schema: int = PLAIN

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty if no trace is recorded."""
        return self.traceparent[3:35]


class DeliveryJob(msgspec.Struct, frozen=True, omit_defaults=True, tag="job", tag_field="type"):
    """Recipients of one accepted mail that go to one destination.

    `id` derives from the mail's id, the destination and the chunk, so a redelivered predecessor
    yields the same ids. `attempt` counts attempts made so far. `share` is the denominator of this
    job's share in the mail's blob (1/share): when ended shares add up to one, the blob may go.
    `site` and `provider` tell where `destination` really is (see `shared.plan.sites`); empty in a
    job of a version that did not know them. `static` tells that `exchangers` were configured, not
    found in DNS. `turn` is when its site will have time for it, in seconds since the epoch, if a
    worker gave it back; 0 if none did. `traceparent` names the span of the router that made the job
    of an accepted mail: that of later attempts too. `authentic` tells that nobody on the network
    can have chosen other `exchangers` (RFC 8689, 2); it matters with `require_tls` only.
    """

    id: str
    mail_id: str
    accepted_at: float
    reverse_path: str
    recipients: tuple[Recipient, ...]
    content: Content
    destination: str
    exchangers: tuple[MailExchanger, ...]
    static: bool = False
    site: str = ""
    provider: str = "other"
    share: int = 1
    attempt: int = 0
    turn: float = 0.0
    tenant: str = "default"
    message_class: MessageClass = MessageClass.TRANSACTIONAL
    eight_bit: bool = False
    smtputf8: bool = False
    dsn: DsnWishes | None = None
    binary: bool = False
    deliver_by: DeliverBy | None = None
    traceparent: str = ""
    require_tls: bool = False
    authentic: bool = False
    schema: int = PLAIN

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty if no trace is recorded."""
        return self.traceparent[3:35]

    @property
    def blob_share(self) -> Fraction:
        """The part of the mail's blob that this job holds."""
        return Fraction(1, self.share)


class Event(msgspec.Struct, frozen=True, tag="event", tag_field="type", omit_defaults=True):
    """One change of custody, as logged: ids first, then what happened to whom and why.

    `kind` is accepted, routed, delivered, deferred, uncertain, failed, expired, dsn or parked, and,
    for who debugs, given_back. `at` is seconds since the epoch; `queue_seconds` runs from
    acceptance.
    """

    kind: str
    at: float
    mail_id: str
    job_id: str = ""
    recipients: tuple[str, ...] = ()
    destination: str = ""
    site: str = ""
    reply: str = ""
    reason: str = ""
    attempt: int = 0
    queue_seconds: float = 0.0
    trace_id: str = ""
    schema: int = PLAIN
