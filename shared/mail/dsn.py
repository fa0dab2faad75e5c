"""Delivery status notifications: what the sender is told about recipients that failed (pure).

RFC 3464 in the frame of RFC 6522. The null reverse-path makes sure that a notification never
causes another (RFC 5321, 6.1). Replies, addresses and headers come from strangers: a notification
is ASCII in short lines whatever they hold (only a reverse-path that is not ASCII stands as it is,
in To), so every next hop can take it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate

from shared.messages.model import AcceptedMail, Content, MessageClass, Recipient
from shared.smtp.replies import Reply

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
        _part("text/rfc822-headers", _safe_headers(mail.headers)),
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
    plain = _PLAIN.fullmatch(body) is not None
    # Text mode keeps CRLF as it is; every other octet that could hurt is encoded.
    encoded = body if plain else binascii.b2a_qp(body, istext=True)
    encoding = "7bit" if plain else "quoted-printable"
    head = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    return head + encoded + b"\r\n"


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
        lines += [
            "",
            f"Final-Recipient: {_typed_address(recipient.address)}",
            "Action: failed",
            f"Status: {_status_code(reply)}",
            f"Diagnostic-Code: smtp; {escaped(one_line(str(reply)), _NOT_ASCII)}",
        ]
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _typed_address(address: str) -> str:
    if address.isascii():
        return f"rfc822; {one_line(address)}"
    return f"utf-8; {escaped(one_line(address), _NOT_XTEXT)}"


def _status_code(reply: Reply) -> str:
    if _ENHANCED.fullmatch(reply.enhanced):
        return reply.enhanced
    return "4.0.0" if reply.transient else "5.0.0"


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
