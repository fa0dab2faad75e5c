"""The Received line that each accepted mail gets (RFC 5321, 4.4), and the count of those it has.

Every part of the line is a token that was checked before it came here; `received_line` checks
once more that no control character is among them, since a line break here is a header of someone
else's making.
"""

from __future__ import annotations

import functools
from email.utils import formatdate
from enum import StrEnum
from typing import NamedTuple


class Protocol(StrEnum):
    """The `with` clause (RFC 3848, RFC 6531 4.3)."""

    SMTP = "SMTP"
    ESMTP = "ESMTP"
    ESMTPA = "ESMTPA"
    ESMTPS = "ESMTPS"
    ESMTPSA = "ESMTPSA"
    UTF8SMTP = "UTF8SMTP"
    UTF8SMTPA = "UTF8SMTPA"
    UTF8SMTPS = "UTF8SMTPS"
    UTF8SMTPSA = "UTF8SMTPSA"


def protocol(extended: bool, smtputf8: bool, secured: bool, authenticated: bool) -> Protocol:
    """How the mail came: with EHLO, SMTPUTF8, TLS, AUTH."""
    if not extended:
        return Protocol.SMTP
    base = "UTF8SMTP" if smtputf8 else "ESMTP"
    return Protocol(base + "S" * secured + "A" * authenticated)


class Hop(NamedTuple):
    """One step of a mail: from whom it came and who took it.

    `client_address` is an IP address, `client_name` what the client calls itself, `tls` version and
    cipher, empty in the clear. Who authenticated is not told: it goes to every recipient.
    """

    client_name: str
    client_address: str
    hostname: str
    protocol: Protocol
    tls: str = ""


def received_line(hop: Hop, mail_id: str, seconds: float) -> bytes:
    """The folded line with its CRLF; `seconds` since the epoch. ValueError for control characters.

    The recipient is left out: it would tell each of several about another (RFC 5321, 7.6).
    """
    address = hop.client_address
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    origin = f"from {hop.client_name} ({literal})"
    comment = f"\r\n\t(using {hop.tls})" if hop.tls else ""
    receipt = f"by {hop.hostname} with {hop.protocol} id {mail_id};"
    if not (origin.isprintable() and hop.tls.isprintable() and receipt.isprintable()):
        raise ValueError("control characters in a Received line")
    return f"Received: {origin}{comment}\r\n\t{receipt}\r\n\t{date_time(int(seconds))}\r\n".encode()


@functools.lru_cache(maxsize=2)
def date_time(seconds: int) -> str:
    """A date-time in UTC (RFC 5322, 3.3), such as `Tue, 24 Nov 2026 08:00:00 +0000`."""
    return formatdate(seconds)[: -len("-0000")] + "+0000"


def hop_count(header: bytes) -> int:
    """How many Received lines are in a header section given in lower case."""
    return header.count(b"\nreceived:") + header.startswith(b"received:")
