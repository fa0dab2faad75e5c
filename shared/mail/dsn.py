"""Delivery status notifications: what the sender is told about his recipients (pure).

RFC 3464 in the frame of RFC 6522, by the wishes of RFC 3461. The null reverse-path makes sure that
a notification never causes another (RFC 5321, 6.1). Replies, addresses and headers come from
strangers: a notification is ASCII in short lines whatever they hold (only a reverse-path that is
not ASCII stands as it is, in To), so every next hop can take it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from enum import StrEnum

from shared.mail.headers import header_section
from shared.messages.model import (
    PLAIN,
    SECRET,
    AcceptedMail,
    Content,
    DeliverBy,
    DeliveryJob,
    DsnWishes,
    MessageClass,
    Recipient,
)
from shared.smtp.replies import Reply
from shared.smtp.xtext import decode_xtext

HEADERS_LIMIT = 32_768
"""Octets of the original's header section that are sent back."""
LONGEST_TEXT = 800
"""Characters of a reply or an address in a notification."""
LONGEST_LINE = 998
"""Octets without CRLF (RFC 5322, 2.1.1)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)
_NOT_ASCII = re.compile(r"[^ -~]")
_NOT_XTEXT = re.compile(r"[^!-~]|[\\+=]")
_PLAIN = re.compile(rb"(?:[\t\x20-\x7e]{0,%d}\r\n)*" % LONGEST_LINE)

FULL = "FULL"
"""The RET that asks for the whole content."""
FULL_LIMIT = 49_152
"""Octets of a content that is sent back whole where that was asked for (RFC 3461, 6.2: at will)."""


class Action(StrEnum):
    """What has happened to a recipient (RFC 3464, 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"


_SUBJECTS = {
    Action.FAILED: "Undelivered Mail Returned to Sender",
    Action.DELAYED: "Delayed Mail (still being retried)",
    Action.RELAYED: "Successful Mail Delivery Report",
}
_TEXTS = {
    Action.FAILED: """\
Your message could not be delivered to the recipients below, and no further
attempt will be made. The reason given for each is quoted as it was received.
""",
    Action.DELAYED: """\
Your message could not yet be delivered to the recipients below. You need not
send it again: it will be tried further. The last reply is quoted for each.
""",
    Action.RELAYED: """\
Your message was handed over for the recipients below, to a mail system that
may not notify you of what follows.
""",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What is told of one recipient; `until` is when a delayed one is given up, since the epoch."""

    recipient: Recipient
    action: Action
    reply: Reply
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class ReportedMail:
    """The mail that a notification is about; `content` is as much of it as is known."""

    mail_id: str
    accepted_at: float
    reverse_path: str
    tenant: str
    message_class: MessageClass
    smtputf8: bool
    content: bytes
    dsn: DsnWishes | None = None
    deliver_by: DeliverBy | None = None
    traceparent: str = ""
    require_tls: bool = False

    @classmethod
    def of(cls, job: DeliveryJob, content: bytes) -> ReportedMail:
        """The mail of a job."""
        return cls(
            job.mail_id,
            job.accepted_at,
            job.reverse_path,
            job.tenant,
            job.message_class,
            job.smtputf8,
            content,
            job.dsn,
            job.deliver_by,
            job.traceparent,
            job.require_tls,
        )


def notification(
    *, dsn_id: str, now: float, hostname: str, mail: ReportedMail, reports: Sequence[Report]
) -> AcceptedMail:
    """The notification of `reports`, of which there are any, as mail to the reverse-path of `mail`.

    `dsn_id` must derive from what is told, so that a redelivery makes the same notification.
    """
    content = _content(dsn_id, now, hostname, mail, reports)
    is_ascii = content.isascii() and mail.reverse_path.isascii()
    return AcceptedMail(
        id=dsn_id,
        accepted_at=now,
        reverse_path="",
        recipients=(Recipient(mail.reverse_path),),
        content=Content(len(content), memoryview(content)),
        tenant=mail.tenant,
        message_class=mail.message_class,
        eight_bit=not is_ascii,
        smtputf8=not is_ascii,
        traceparent=mail.traceparent,
        require_tls=mail.require_tls,
        schema=SECRET if mail.require_tls else PLAIN,
    )


def _content(
    dsn_id: str, now: float, hostname: str, mail: ReportedMail, reports: Sequence[Report]
) -> bytes:
    boundary = f"=_postroad_{dsn_id}"
    parts = [
        _part("text/plain; charset=utf-8", _human(hostname, reports)),
        _part("message/delivery-status", _status(hostname, mail, reports)),
        _original(mail, reports),
    ]
    subject = next(_SUBJECTS[kind] for kind in Action if any(r.action is kind for r in reports))
    head = _head(f"{dsn_id}@{hostname}", now, mail.reverse_path, subject, boundary)
    body = b"".join(f"--{boundary}\r\n".encode() + part for part in parts)
    return head.encode() + b"\r\n" + body + f"--{boundary}--\r\n".encode()


def _original(mail: ReportedMail, reports: Sequence[Report]) -> bytes:
    """The headers; all of it if a failure is told, and the sender asked, and it can stand so.

    Of mail that requires TLS never more than the headers (RFC 8689, 5).
    """
    wanted = mail.dsn is not None and mail.dsn.ret == FULL and not mail.require_tls
    if (
        wanted
        and len(mail.content) <= FULL_LIMIT
        and any(report.action is Action.FAILED for report in reports)
        and _PLAIN.fullmatch(mail.content)  # of this type nothing may be encoded (RFC 2046, 5.2.1)
    ):
        return _part("message/rfc822", mail.content)
    headers = header_section(mail.content, HEADERS_LIMIT)
    return _part("text/rfc822-headers", _safe_headers(headers))


def _head(message_id: str, now: float, to: str, subject: str, boundary: str) -> str:
    hostname = message_id.partition("@")[2]
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>",
        f"To: <{one_line(to)}>",
        f"Subject: {subject}",
        f"Date: {formatdate(now)}",
        f"Message-ID: <{message_id}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
    ]
    return "".join(f"{line}\r\n" for line in lines)


def _part(kind: str, body: bytes) -> bytes:
    plain = _PLAIN.fullmatch(body) is not None
    # Text mode keeps CRLF as it is; every other octet that could hurt is encoded.
    encoded = body if plain else binascii.b2a_qp(body, istext=True)
    encoding = "7bit" if plain else "quoted-printable"
    head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    return head + encoded + b"\r\n"


def _human(hostname: str, reports: Sequence[Report]) -> bytes:
    text = f"This is the mail system at {hostname}.\n\n"
    for action in Action:
        those = [report for report in reports if report.action is action]
        if those:
            text += _TEXTS[action] + "\n"
        for report in those:
            address = one_line(report.recipient.address)
            text += f"<{address}>\n    {one_line(str(report.reply))}\n\n"
    return text.replace("\n", "\r\n").encode()


def _status(hostname: str, mail: ReportedMail, reports: Sequence[Report]) -> bytes:
    lines = [f"Reporting-MTA: dns; {hostname}", f"Arrival-Date: {formatdate(mail.accepted_at)}"]
    if mail.dsn is not None and mail.dsn.envid:
        lines.insert(0, f"Original-Envelope-Id: {_decoded(mail.dsn.envid)}")
    if mail.deliver_by is not None:  # RFC 2852, 5
        lines.append(f"Deliver-By-Date: {formatdate(mail.deliver_by.deadline)}")
    for report in reports:
        recipient, reply = report.recipient, report.reply
        lines.append("")
        if recipient.orcpt:
            kind, _, address = recipient.orcpt.partition(";")
            lines.append(f"Original-Recipient: {kind}; {_decoded(address)}")
        lines += [
            f"Final-Recipient: {_typed_address(recipient.address)}",
            f"Action: {report.action}",
            f"Status: {_status_code(reply)}",
            f"Diagnostic-Code: smtp; {escaped(one_line(str(reply)), _NOT_ASCII)}",
        ]
        if report.until:
            lines.append(f"Will-Retry-Until: {formatdate(report.until)}")
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _decoded(xtext: str) -> str:
    """As the sender meant it, on one line of ASCII."""
    try:
        text = decode_xtext(xtext)
    except ValueError:
        text = xtext
    return escaped(one_line(text), _NOT_ASCII)


def _typed_address(address: str) -> str:
    if address.isascii():
        return f"rfc822; {one_line(address)}"
    return f"utf-8; {escaped(one_line(address), _NOT_XTEXT)}"


def _status_code(reply: Reply) -> str:
    if _ENHANCED.fullmatch(reply.enhanced):
        return reply.enhanced
    return f"{reply.code // 100}.0.0" if 200 <= reply.code < 600 else "5.0.0"


def _safe_headers(headers: bytes) -> bytes:
    lines = [line for line in headers.split(b"\r\n") if line]
    return b"".join(line.replace(b"\r", b" ").replace(b"\n", b" ") + b"\r\n" for line in lines)


def one_line(text: str) -> str:
    """Text from outside as one line without control characters, of bounded length."""
    printable = text.encode("utf-8", "replace").decode()
    return _CONTROL.sub(" ", printable)[:LONGEST_TEXT].strip()


def escaped(text: str, unsafe: re.Pattern[str]) -> str:
    r"""ASCII of bounded length: what is `unsafe` becomes `\x{HEX}` (RFC 6533, 3), as a whole."""
    kept: list[str] = []
    room = LONGEST_TEXT
    for character in text:
        piece = f"\\x{{{ord(character):X}}}" if unsafe.match(character) else character
        room -= len(piece)
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept)
