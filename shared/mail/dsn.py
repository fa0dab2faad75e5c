"""Delivery status notifications: what the sender is told about recipients that failed (pure).

RFC 3464 in the frame of RFC 6522. The null reverse-path makes sure that a notification never
causes another (RFC 5321, 6.1). Replies and addresses come from strangers: control characters are
taken out, everything else is encoded or kept on one line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate

from shared.mail.headers import header_section
from shared.messages.model import AcceptedMail, Content, MessageClass, Recipient
from shared.smtp.replies import Reply

HEADERS_LIMIT = 32_768
LONGEST_TEXT = 800
"""Characters of a reply or an address in a notification: a line has at most 998 octets."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

EXPLANATION = """\
This is the mail system at {hostname}.

Your message could not be delivered to the recipients below, and no further
attempt will be made. The reason given for each is quoted as it was received.

"""


@dataclass(frozen=True, slots=True)
class ReportedMail:
    """The mail that a notification is about; `headers` are its header lines."""

    mail_id: str
    accepted_at: float
    reverse_path: str
    tenant: str
    message_class: MessageClass
    smtputf8: bool
    headers: bytes


def reported(mail: AcceptedMail, content: bytes | memoryview) -> ReportedMail:
    """What a notification needs to know of an accepted mail."""
    return ReportedMail(
        mail.id,
        mail.accepted_at,
        mail.reverse_path,
        mail.tenant,
        mail.message_class,
        mail.smtputf8,
        header_section(content, HEADERS_LIMIT),
    )


def failure_dsn(
    *,
    dsn_id: str,
    now: float,
    hostname: str,
    mail: ReportedMail,
    failures: Sequence[tuple[Recipient, Reply]],
) -> AcceptedMail:
    """The notification that `failures` are final, as mail to the reverse-path of `mail`.

    `dsn_id` must derive from what failed, so that a redelivery makes the same notification.
    """
    content = _content(dsn_id, now, hostname, mail, failures)
    return AcceptedMail(
        id=dsn_id,
        accepted_at=now,
        reverse_path="",
        recipients=(Recipient(mail.reverse_path),),
        content=Content(len(content), memoryview(content)),
        tenant=mail.tenant,
        message_class=mail.message_class,
        eight_bit=True,
        smtputf8=not mail.reverse_path.isascii(),
    )


def _content(
    dsn_id: str,
    now: float,
    hostname: str,
    mail: ReportedMail,
    failures: Sequence[tuple[Recipient, Reply]],
) -> bytes:
    boundary = f"=_postroad_{dsn_id}"
    parts = [
        _part("text/plain; charset=utf-8", _human(hostname, failures)),
        _part("message/delivery-status", _status(hostname, mail, failures)),
        _part("text/rfc822-headers; charset=utf-8", _safe_headers(mail.headers)),
    ]
    head = _head(dsn_id, now, hostname, mail.reverse_path, boundary)
    body = b"".join(f"--{boundary}\r\n".encode() + part for part in parts)
    return head.encode() + b"\r\n" + body + f"--{boundary}--\r\n".encode()


def _head(dsn_id: str, now: float, hostname: str, to: str, boundary: str) -> str:
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>",
        f"To: <{one_line(to)}>",
        "Subject: Undelivered Mail Returned to Sender",
        f"Date: {formatdate(now)}",
        f"Message-ID: <{dsn_id}@{hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
    ]
    return "".join(f"{line}\r\n" for line in lines)


def _part(kind: str, body: bytes) -> bytes:
    head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n".encode()
    return head + body + b"\r\n"


def _human(hostname: str, failures: Sequence[tuple[Recipient, Reply]]) -> bytes:
    text = EXPLANATION.format(hostname=hostname)
    for recipient, reply in failures:
        text += f"<{one_line(recipient.address)}>\n    {one_line(str(reply))}\n\n"
    return text.replace("\n", "\r\n").encode()


def _status(
    hostname: str, mail: ReportedMail, failures: Sequence[tuple[Recipient, Reply]]
) -> bytes:
    lines = [f"Reporting-MTA: dns; {hostname}", f"Arrival-Date: {formatdate(mail.accepted_at)}"]
    for recipient, reply in failures:
        address = one_line(recipient.address)
        kind = "rfc822" if address.isascii() else "utf-8"
        lines += [
            "",
            f"Final-Recipient: {kind}; {address}",
            "Action: failed",
            f"Status: {reply.enhanced or '5.0.0'}",
            f"Diagnostic-Code: smtp; {one_line(str(reply))}",
        ]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _safe_headers(headers: bytes) -> bytes:
    lines = [line[:998] for line in headers.split(b"\r\n") if line]
    return b"".join(line.replace(b"\r", b" ").replace(b"\n", b" ") + b"\r\n" for line in lines)


def one_line(text: str) -> str:
    """Text from outside as one line without control characters, of bounded length."""
    printable = text.encode("utf-8", "replace").decode()
    return _CONTROL.sub(" ", printable)[:LONGEST_TEXT].strip()
