"""MessagePack in and out. Whatever bytes come in, the answer is a message or one `CodecError`."""

from __future__ import annotations

import msgspec

from shared.broker.interface import ParkReason
from shared.messages.model import SCHEMA, AcceptedMail, DeliveryJob, Event

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
