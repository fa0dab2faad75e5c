"""What mail that users submit needs before it goes on (pure; RFC 6409, 8). Relayed mail stays.

Bcc and the fields of a trace go, a missing Date, Message-ID or From comes; what would be read one
way here and another way elsewhere (two From, a line that is no header field) is refused with its
reason. The body is never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.ingress.content import LONGEST_HEADER, header_end
from shared.mail.addresses import mailboxes
from shared.mail.trace import date_time
from shared.smtp.server_replies import HEADER_TOO_LARGE, ServerReply, bad_header, sender_refused

MOST_FIELDS = 1000
"""Lines of a header section."""
_ONCE = frozenset((b"from", b"sender", b"reply-to", b"date", b"message-id", b"subject"))
"""Fields that may come once (RFC 5322, 3.6): who reads the first sees another mail than who reads
the last."""
_SENDERS = frozenset((b"sender", b"resent-from", b"resent-sender"))
_SECRET = frozenset((b"bcc", b"resent-bcc", b"traceparent", b"tracestate"))
"""Fields for us: blind copies, and the client's place in a trace."""
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")


@dataclass(frozen=True, slots=True)
class Submission:
    """Who submits: `may_send_as` tells whether an address may stand for an author or sender.

    Only of a `bound` user that is asked for fields other than From.
    """

    mail_id: str
    hostname: str
    seconds: float
    reverse_path: str
    may_send_as: Callable[[str], bool]
    bound: bool = True


@dataclass(frozen=True, slots=True)
class _Field:
    name: bytes
    raw: bytes

    @property
    def value(self) -> str:
        """Without its name; folds stay. Raises UnicodeDecodeError."""
        return self.raw.partition(b":")[2].decode()


def prepare(content: bytes, submission: Submission) -> bytes | ServerReply:
    """The content as it goes on, or why it does not."""
    end = header_end(content)
    fields = _fields(content[:end])
    if isinstance(fields, ServerReply):
        return fields
    if end >= LONGEST_HEADER:
        return HEADER_TOO_LARGE
    by_name = {field.name: field for field in fields}
    refusal = _twice(fields) or _check_from(by_name.get(b"from"), submission)
    if refusal is None and submission.bound and by_name.keys() & _SENDERS:
        refusal = _check_senders(fields, submission)
    if refusal is not None:
        return refusal
    added = _missing(by_name, submission)
    if not added and not by_name.keys() & _SECRET:
        return content
    kept = b"".join([field.raw for field in fields if field.name not in _SECRET])
    if kept and not kept.endswith(b"\r\n"):
        kept += b"\r\n"
    return b"".join((kept, added, content[end:] or b"\r\n"))


def _fields(header: bytes) -> list[_Field] | ServerReply:
    fields: list[_Field] = []
    begun: list[bytes] = []
    for number, line in enumerate(header.splitlines(keepends=True), 1):
        if line[:1] in b" \t" and fields:
            begun.append(line)
            continue
        if number > MOST_FIELDS:
            return HEADER_TOO_LARGE
        match = _FIELD.match(line)
        if match is None:
            return bad_header(f"Line {number} of the header is not a header field")
        if len(begun) > 1:
            _end_field(fields, begun)
        begun = [line]
        fields.append(_Field(match[1].lower(), line))
    if len(begun) > 1:
        _end_field(fields, begun)
    return fields


def _end_field(fields: list[_Field], lines: Sequence[bytes]) -> None:
    """The last field has all these lines: put together once, however many they are."""
    fields[-1] = _Field(fields[-1].name, b"".join(lines))


def _twice(fields: Sequence[_Field]) -> ServerReply | None:
    seen: set[bytes] = set()
    for field in fields:
        if field.name in _ONCE and field.name in seen:
            return bad_header(f"More than one {field.name.decode('ascii').title()} header")
        seen.add(field.name)
    return None


def _check_from(field: _Field | None, submission: Submission) -> ServerReply | None:
    if field is None:
        return None if submission.reverse_path else bad_header("No From header")
    return _check_mailboxes(field, "From", submission)


def _check_senders(fields: Sequence[_Field], submission: Submission) -> ServerReply | None:
    """What readers show beside From, or instead of it (RFC 5322, 3.6.2 and 3.6.6)."""
    for field in fields:
        if field.name in _SENDERS:
            name = field.name.decode("ascii").title()
            refusal = _check_mailboxes(field, name, submission)
            if refusal is not None:
                return refusal
    return None


def _check_mailboxes(field: _Field, name: str, submission: Submission) -> ServerReply | None:
    try:
        addresses = mailboxes(field.value)
    except ValueError:
        addresses = ()
    if not addresses:
        return bad_header(f"The {name} header is not a list of mailboxes")
    for address in addresses:
        if not submission.may_send_as(address):
            return sender_refused(f"This user may not send as <{address}>")
    return None


def _missing(by_name: dict[bytes, _Field], submission: Submission) -> bytes:
    added = []
    if b"from" not in by_name:
        added.append(f"From: <{submission.reverse_path}>\r\n")
    if b"date" not in by_name:
        added.append(f"Date: {date_time(int(submission.seconds))}\r\n")
    if b"message-id" not in by_name:
        added.append(f"Message-ID: <{submission.mail_id}@{submission.hostname}>\r\n")
    return "".join(added).encode()
