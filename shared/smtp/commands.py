"""The arguments of MAIL, RCPT and EHLO (pure): any octets give a value or one `ProtocolError`."""

from __future__ import annotations

from collections.abc import Collection

from shared.smtp.errors import ProtocolError
from shared.smtp.parameters import (
    MailParameters,
    RecipientParameters,
    parse_mail_parameters,
    parse_recipient_parameters,
)
from shared.smtp.paths import (
    ForwardPath,
    ReversePath,
    is_hello_name,
    parse_forward_path,
    parse_reverse_path,
)
from shared.smtp.server_replies import (
    ADDRESS_NEEDS_SMTPUTF8,
    AUTH_SYNTAX,
    FORWARD_PATH_SYNTAX,
    HELLO_SYNTAX,
    MAIL_SYNTAX,
    PARAMETER_SYNTAX,
    RCPT_SYNTAX,
    REVERSE_PATH_SYNTAX,
    ServerReply,
)


def parse_mail(argument: bytes, announced: Collection[str]) -> tuple[ReversePath, MailParameters]:
    """What follows `MAIL `, where these parameters were `announced`. Raises `ProtocolError`."""
    # No blank may stand beside the colon (RFC 5321, 3.3).
    if argument[:5].upper() != b"FROM:":
        raise ProtocolError(MAIL_SYNTAX)
    path, rest = parse_reverse_path(_text(argument[5:], REVERSE_PATH_SYNTAX))
    _check_separated(rest)
    parameters = parse_mail_parameters(rest, announced)
    if not (parameters.smtputf8 or argument.isascii()):
        raise ProtocolError(ADDRESS_NEEDS_SMTPUTF8)
    return path, parameters


def parse_rcpt(
    argument: bytes, announced: Collection[str], smtputf8: bool
) -> tuple[ForwardPath, RecipientParameters]:
    """What follows `RCPT `, in a transaction with SMTPUTF8 or not. Raises `ProtocolError`.

    `announced` are the parameters that may be used.
    """
    if argument[:3].upper() != b"TO:":
        raise ProtocolError(RCPT_SYNTAX)
    path, rest = parse_forward_path(_text(argument[3:], FORWARD_PATH_SYNTAX))
    _check_separated(rest)
    parameters = parse_recipient_parameters(rest, announced)
    if not (smtputf8 or argument.isascii()):
        raise ProtocolError(ADDRESS_NEEDS_SMTPUTF8)
    return path, parameters


def parse_hello(argument: bytes) -> str:
    """The name that follows EHLO or HELO; ASCII even where SMTPUTF8 is offered (RFC 6531, 3.7.1).

    Raises `ProtocolError`.
    """
    name = argument.decode("latin-1")
    if not is_hello_name(name):
        raise ProtocolError(HELLO_SYNTAX)
    return name


def parse_auth(argument: bytes) -> tuple[str, ...]:
    """The mechanism in upper case, and the initial response if there is one (RFC 4954, 4).

    Raises `ProtocolError`.
    """
    words = argument.decode("latin-1").split(" ")
    if not all(words) or len(words) > 2:
        raise ProtocolError(AUTH_SYNTAX)
    return (words[0].upper(), *words[1:])


def _text(octets: bytes, fault: ServerReply) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise ProtocolError(fault) from None


def _check_separated(rest: str) -> None:
    if rest and not rest.startswith(" "):
        raise ProtocolError(PARAMETER_SYNTAX)
