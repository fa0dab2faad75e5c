"""Submits one message as a program would, and tells under which id it was accepted."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any

from shared.settings.accepting import ListenerTls

PATIENCE = 30.0
"""Seconds that one reply may take."""
_QUEUED = re.compile(rb"queued as (\S+)")


@dataclass(frozen=True, slots=True)
class Submission:
    """Where to submit, how, and what. `name` is whom the certificate has to name.

    Without `verify` any certificate does. `ca_file` has who signed it, None: whom the system
    trusts.
    """

    host: str
    port: int
    tls: ListenerTls
    name: str
    sender: str
    recipient: str
    login: tuple[str, str] | None = None
    verify: bool = True
    ca_file: Path | None = None


class _Context(ssl.SSLContext):
    """Asks for the certificate of `name`, whatever host was connected to."""

    name: str

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        options["server_hostname"] = self.name
        return super().wrap_socket(sock, *args, **options)


def submit(wanted: Submission) -> str:
    """The id of the accepted mail. Raises OSError and smtplib.SMTPException."""
    with _connect(wanted) as session:
        session.ehlo()
        if wanted.tls is ListenerTls.STARTTLS:
            session.starttls(context=_context(wanted))
            session.ehlo()
        if wanted.login:
            session.login(*wanted.login)
        for verb, address in (("mail", wanted.sender), ("rcpt", wanted.recipient)):
            _check(*session.docmd(verb, f"{'FROM' if verb == 'mail' else 'TO'}:<{address}>"))
        code, text = session.data(_message(wanted).as_bytes(policy=SMTP))
        _check(code, text)
    found = _QUEUED.search(text)
    return found[1].decode() if found else text.decode(errors="replace")


def _connect(wanted: Submission) -> smtplib.SMTP:
    if wanted.tls is ListenerTls.IMPLICIT:
        context = _context(wanted)
        return smtplib.SMTP_SSL(wanted.host, wanted.port, timeout=PATIENCE, context=context)
    return smtplib.SMTP(wanted.host, wanted.port, timeout=PATIENCE)


def _context(wanted: Submission) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.name = wanted.name
    if not wanted.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif wanted.ca_file:
        context.load_verify_locations(wanted.ca_file)
    else:
        context.load_default_certs()
    return context


def _check(code: int, text: bytes) -> None:
    if not 200 <= code < 300:
        raise smtplib.SMTPResponseException(code, text)


def _message(wanted: Submission) -> EmailMessage:
    message = EmailMessage()
    message["From"] = wanted.sender
    message["To"] = wanted.recipient
    message["Subject"] = "postroad probe"
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=wanted.name)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("This message was sent by `postroad probe` to see whether mail flows.\n")
    return message
