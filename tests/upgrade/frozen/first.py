"""The messages of the first version, and how it read them: a copy that is never changed.

What a process of that version does with our messages is what this module does with them.
"""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction

import msgspec


class ParkReason(StrEnum):
    """As far as the codec used them."""

    UNDECODABLE = "undecodable"
    UNKNOWN_SCHEMA = "unknown_schema"


SCHEMA = 1
"""The newest schema version this code reads and the one it writes."""

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


class Recipient(msgspec.Struct, frozen=True):
    """One forward-path as the client sent it, without angle brackets or source route."""

    address: str


class MailExchanger(msgspec.Struct, frozen=True):
    """A host to try; lower preference first, equal ones in random order (RFC 5321, 5.1).

    `host` is a name or an address; `port` 0 means the configured SMTP port.
    """

    preference: int
    host: str
    port: int = 0


class AcceptedMail(msgspec.Struct, frozen=True, tag="accepted", tag_field="type"):
    """One SMTP transaction that was answered 250: every recipient, one broker message.

    `accepted_at` is seconds since the epoch. An empty `reverse_path` is the null reverse-path.
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
    schema: int = SCHEMA


class DeliveryJob(msgspec.Struct, frozen=True, tag="job", tag_field="type"):
    """Recipients of one accepted mail that go to one destination.

    `id` derives from the mail's id, the destination and the chunk, so a redelivered predecessor
    yields the same ids. `attempt` counts attempts made so far. `share` is the denominator of this
    job's share in the mail's blob (1/share): when ended shares add up to one, the blob may go.
    `static` tells that `exchangers` were configured, not found in DNS.
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
    share: int = 1
    attempt: int = 0
    tenant: str = "default"
    message_class: MessageClass = MessageClass.TRANSACTIONAL
    eight_bit: bool = False
    smtputf8: bool = False
    schema: int = SCHEMA

    @property
    def blob_share(self) -> Fraction:
        """The part of the mail's blob that this job holds."""
        return Fraction(1, self.share)


class Event(msgspec.Struct, frozen=True, tag="event", tag_field="type", omit_defaults=True):
    """One change of custody, as logged: ids first, then what happened to whom and why.

    `kind` is accepted, routed, delivered, deferred, failed, expired, dsn or parked.
    `at` is seconds since the epoch; `queue_seconds` runs from acceptance.
    """

    kind: str
    at: float
    mail_id: str
    job_id: str = ""
    recipients: tuple[str, ...] = ()
    destination: str = ""
    reply: str = ""
    reason: str = ""
    attempt: int = 0
    queue_seconds: float = 0.0
    schema: int = SCHEMA


Message = AcceptedMail | DeliveryJob | Event


class CodecError(ValueError):
    """The bytes are not a message we read; `reason` says how to park them."""

    def __init__(self, reason: ParkReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Version(msgspec.Struct):
    schema: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_version_decoder = msgspec.msgpack.Decoder(_Version)


def encode(message: Message) -> bytes:
    """The MessagePack form of a message."""
    return _encoder.encode(message)


def decode(body: bytes) -> Message:
    """The message in `body`; inline content is a view into `body`, not a copy.

    Raises `CodecError` for bytes that are no message, or one of a newer schema.
    """
    try:
        message = _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _reason(body, error) from error
    if message.schema > SCHEMA:
        raise _too_new(message.schema)
    return message


def _reason(body: bytes, error: Exception) -> CodecError:
    try:
        schema = _version_decoder.decode(body).schema
    except (msgspec.MsgspecError, ValueError, RecursionError):
        schema = 0
    if schema > SCHEMA:
        return _too_new(schema)
    return CodecError(ParkReason.UNDECODABLE, str(error))


def _too_new(schema: int) -> CodecError:
    return CodecError(ParkReason.UNKNOWN_SCHEMA, f"schema {schema} is newer than {SCHEMA}")
