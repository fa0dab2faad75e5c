"""ESMTP parameters of MAIL and RCPT (RFC 5321, 4.1.2: Mail-parameters). Pure.

`split_parameters` keeps values as sent, since some extensions give meaning to case. The readers
of single parameters are in one table, so that an extension is one entry more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum

import msgspec

from shared.smtp.errors import ProtocolError
from shared.smtp.server_replies import PARAMETER_SYNTAX, UNKNOWN_PARAMETER
from shared.smtp.xtext import XTEXT

_PARAMETER = re.compile(
    "([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([!-<>-~\u00a0-\U0010ffff]++))?",
)
_SIZE = re.compile(r"[0-9]{1,20}")  # RFC 1870, 3
_PRIORITY = re.compile(r"-?[1-9]|0")  # RFC 6710, 6: priority-value
_BY = re.compile(r"([+-]?[0-9]{1,9});([NR])(T?)", re.IGNORECASE)  # RFC 2852, 2
_ORCPT = re.compile(r"([A-Za-z0-9-]{1,40});(.+)")
LONGEST_ENVID = 100
LONGEST_ORCPT = 500
"""Octets, xtext included (RFC 3461, 4.4 and 4.2)."""


class Body(StrEnum):
    """What the client says about the octets of the content (RFC 6152, RFC 3030)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"
    BINARY_MIME = "BINARYMIME"


class Notify(StrEnum):
    """What NOTIFY can ask for (RFC 3461, 4.1)."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


NEVER = "NEVER"


class By(msgspec.Struct, frozen=True):
    """BY of MAIL (RFC 2852): within how many seconds, and what if not (see `DeliverBy`)."""

    seconds: int
    returns: bool = False
    traced: bool = False


class MailParameters(msgspec.Struct, frozen=True):
    """What may follow the reverse-path. `size` is in octets, 0 if not given.

    `ret` and `envid` are those of RFC 3461, `priority` is that of RFC 6710, `by` that of RFC 2852,
    `require_tls` that of RFC 8689.
    """

    size: int = 0
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    priority: int = 0
    by: By | None = None
    require_tls: bool = False


class RecipientParameters(msgspec.Struct, frozen=True):
    """What may follow the forward-path (RFC 3461, 4.1 and 4.2); ORCPT stays as sent."""

    notify: str = ""
    orcpt: str = ""


NO_RECIPIENT_PARAMETERS = RecipientParameters()
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


def parse_mail_parameters(text: str, announced: Collection[str]) -> MailParameters:
    """The parameters of MAIL, of those that were `announced`. Raises `ProtocolError`."""
    if not text:
        return NO_MAIL_PARAMETERS
    fields: dict[str, object] = {}
    for keyword, value in split_parameters(text).items():
        read = _MAIL_READERS.get(keyword)
        if read is None or keyword not in announced:
            raise ProtocolError(UNKNOWN_PARAMETER)
        fields |= read(value)
    return msgspec.structs.replace(NO_MAIL_PARAMETERS, **fields)


def parse_recipient_parameters(text: str, announced: Collection[str]) -> RecipientParameters:
    """The parameters of RCPT, of those that were `announced`. Raises `ProtocolError`."""
    if not text:
        return NO_RECIPIENT_PARAMETERS
    fields: dict[str, str] = {}
    for keyword, value in split_parameters(text).items():
        read = _RECIPIENT_READERS.get(keyword)
        if read is None or keyword not in announced:
            raise ProtocolError(UNKNOWN_PARAMETER)
        field, reader = read
        fields[field] = reader(value or "")
    return RecipientParameters(**fields)


def _notify(value: str) -> str:
    """NEVER, or what is asked for in one order."""
    words = value.upper().split(",")
    if words == [NEVER]:
        return NEVER
    if len(set(words)) != len(words) or not set(words) <= set(Notify):
        raise ProtocolError(PARAMETER_SYNTAX)
    return ",".join(each for each in Notify if each in words)


def _orcpt(value: str) -> str:
    match = _ORCPT.fullmatch(value)
    if match is None or len(value) > LONGEST_ORCPT or not value.isprintable():
        raise ProtocolError(PARAMETER_SYNTAX)
    # With SMTPUTF8 the address may also be unitext (RFC 6533, 3), in which nothing is encoded.
    if match[1].lower() != "utf-8" and not XTEXT.fullmatch(match[2]):
        raise ProtocolError(PARAMETER_SYNTAX)
    return value


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


def _require_tls(value: str | None) -> dict[str, object]:
    if value is not None:
        raise ProtocolError(PARAMETER_SYNTAX)
    return {"require_tls": True}


def _auth(value: str | None) -> dict[str, object]:
    """Whom the mail was first submitted by; nobody here relies on it (RFC 4954, 5)."""
    if value is None or not XTEXT.fullmatch(value):
        raise ProtocolError(PARAMETER_SYNTAX)
    return {}


def _ret(value: str | None) -> dict[str, object]:
    ret = (value or "").upper()
    if ret not in {"FULL", "HDRS"}:
        raise ProtocolError(PARAMETER_SYNTAX)
    return {"ret": ret}


def _envid(value: str | None) -> dict[str, object]:
    if value is None or len(value) > LONGEST_ENVID or not XTEXT.fullmatch(value):
        raise ProtocolError(PARAMETER_SYNTAX)
    return {"envid": value}


def _priority(value: str | None) -> dict[str, object]:
    if value is None or not _PRIORITY.fullmatch(value):
        raise ProtocolError(PARAMETER_SYNTAX)
    return {"priority": int(value)}


def _by(value: str | None) -> dict[str, object]:
    match = _BY.fullmatch(value or "")
    if match is None:
        raise ProtocolError(PARAMETER_SYNTAX)
    by = By(int(match[1]), match[2] in "Rr", bool(match[3]))
    if by.returns and by.seconds <= 0:
        raise ProtocolError(PARAMETER_SYNTAX)
    return {"by": by}


_MAIL_READERS: dict[str, Callable[[str | None], dict[str, object]]] = {
    "SIZE": _size,
    "BODY": _body,
    "SMTPUTF8": _smtputf8,
    "AUTH": _auth,
    "RET": _ret,
    "ENVID": _envid,
    "MT-PRIORITY": _priority,
    "BY": _by,
    "REQUIRETLS": _require_tls,
}
_RECIPIENT_READERS: dict[str, tuple[str, Callable[[str], str]]] = {
    "NOTIFY": ("notify", _notify),
    "ORCPT": ("orcpt", _orcpt),
}
_BROUGHT_BY = {
    "SIZE": ("SIZE",),
    "8BITMIME": ("BODY",),
    "SMTPUTF8": ("SMTPUTF8",),
    "AUTH": ("AUTH",),
    "DSN": ("RET", "ENVID", "NOTIFY", "ORCPT"),
    "MT-PRIORITY": ("MT-PRIORITY",),
    "DELIVERBY": ("BY",),
    "REQUIRETLS": ("REQUIRETLS",),
}
ALL_PARAMETERS = frozenset((*_MAIL_READERS, *_RECIPIENT_READERS))


def brought_by(extensions: Iterable[str]) -> frozenset[str]:
    """The parameters that these EHLO lines permit (RFC 5321, 2.2.1): nothing else may be used."""
    keywords = (line.partition(" ")[0] for line in extensions)
    return frozenset(name for each in keywords for name in _BROUGHT_BY.get(each, ()))
