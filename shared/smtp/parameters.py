"""ESMTP parameters of MAIL and RCPT (RFC 5321, 4.1.2: Mail-parameters). Pure.

`split_parameters` keeps values as sent, since some extensions give meaning to case. The readers
of single parameters are in one table, so that an extension is one entry more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum

import msgspec

from shared.smtp.errors import ProtocolError
from shared.smtp.server_replies import PARAMETER_SYNTAX, UNKNOWN_PARAMETER

_PARAMETER = re.compile(
    "([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([!-<>-~\u00a0-\U0010ffff]++))?",
)
_SIZE = re.compile(r"[0-9]{1,20}")  # RFC 1870, 3
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")  # RFC 3461, 4


class Body(StrEnum):
    """What the client says about the octets of the content (RFC 6152)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"


class MailParameters(msgspec.Struct, frozen=True):
    """What may follow the reverse-path. `size` is in octets, 0 if not given."""

    size: int = 0
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False


NO_MAIL_PARAMETERS = MailParameters()


def split_parameters(text: str) -> dict[str, str | None]:
    """Keywords in upper case with their values as sent. Raises `ProtocolError`."""
    parameters: dict[str, str | None] = {}
    for word in text.split(" "):
        match = _PARAMETER.fullmatch(word)
        if match is None:
            if word:
                raise ProtocolError(PARAMETER_SYNTAX)
            continue
        keyword = match[1].upper()
        if keyword in parameters:
            raise ProtocolError(PARAMETER_SYNTAX)  # RFC 5321, 4.1.1.11
        parameters[keyword] = match[2]
    return parameters


def parse_mail_parameters(text: str) -> MailParameters:
    """The parameters of MAIL. Raises `ProtocolError`."""
    if not text:
        return NO_MAIL_PARAMETERS
    fields: dict[str, object] = {}
    for keyword, value in split_parameters(text).items():
        read = _MAIL_READERS.get(keyword)
        if read is None:
            raise ProtocolError(UNKNOWN_PARAMETER)
        fields |= read(value)
    return msgspec.structs.replace(NO_MAIL_PARAMETERS, **fields)


def check_recipient_parameters(text: str) -> None:
    """RCPT has none that we know. Raises `ProtocolError` for each."""
    if text and split_parameters(text):
        raise ProtocolError(UNKNOWN_PARAMETER)


def _size(value: str | None) -> dict[str, object]:
    if value is None or not _SIZE.fullmatch(value):
        raise ProtocolError(PARAMETER_SYNTAX)
    return {"size": int(value)}


def _body(value: str | None) -> dict[str, object]:
    try:
        return {"body": Body((value or "").upper())}
    except ValueError:
        raise ProtocolError(PARAMETER_SYNTAX) from None


def _smtputf8(value: str | None) -> dict[str, object]:
    if value is not None:
        raise ProtocolError(PARAMETER_SYNTAX)
    return {"smtputf8": True}


def _auth(value: str | None) -> dict[str, object]:
    """Whom the mail was first submitted by; nobody here relies on it (RFC 4954, 5)."""
    if value is None or not _XTEXT.fullmatch(value):
        raise ProtocolError(PARAMETER_SYNTAX)
    return {}


_MAIL_READERS: dict[str, Callable[[str | None], dict[str, object]]] = {
    "SIZE": _size,
    "BODY": _body,
    "SMTPUTF8": _smtputf8,
    "AUTH": _auth,
}
