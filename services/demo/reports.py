"""What the receivers' process tells the demo, a JSON line each, and how it reads a DSN.

Pure: bytes in, values out.
"""

from __future__ import annotations

import email
import email.message
import email.policy
from collections.abc import Iterator

import msgspec


class Listening(msgspec.Struct, frozen=True, tag="listening"):
    """The receivers' ports by domain; always the first report."""

    ports: dict[str, int]


class Arrived(msgspec.Struct, frozen=True, tag="arrived"):
    """A message reached a receiver: `deferred` are those of `recipients` it had refused before.

    `at` is seconds since the epoch; `intact` says that the body had the digest it was sent with.
    """

    demo_id: str
    recipients: tuple[str, ...]
    deferred: tuple[str, ...]
    at: float
    intact: bool


class Bounced(msgspec.Struct, frozen=True, tag="bounced"):
    """A failure DSN about `recipients` reached the sender."""

    demo_id: str
    recipients: tuple[str, ...]


Report = Listening | Arrived | Bounced
_decoder: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)
_encoder = msgspec.json.Encoder()


def write_report(report: Report) -> bytes:
    """One line."""
    return _encoder.encode(report) + b"\n"


def read_report(line: bytes) -> Report:
    """The report in a line. Raises `msgspec.MsgspecError` for anything else."""
    return _decoder.decode(line)


def failed_recipients(content: bytes) -> tuple[str, ...]:
    """The Final-Recipients with Action failed in a DSN (RFC 3464, 2.3); none if it is no DSN."""
    message = email.message_from_bytes(content, policy=email.policy.SMTPUTF8)
    found = [_failed(block) for block in _status_blocks(message)]
    return tuple(address for address in found if address)


def _status_blocks(message: email.message.Message) -> Iterator[email.message.Message]:
    for part in message.walk():
        if part.get_content_type() in {"message/delivery-status", "message/global-delivery-status"}:
            for block in part.get_payload():
                if isinstance(block, email.message.Message):
                    yield block


def _failed(block: email.message.Message) -> str:
    if str(block.get("Action", "")).strip().lower() != "failed":
        return ""
    return str(block.get("Final-Recipient", "")).partition(";")[2].strip()
