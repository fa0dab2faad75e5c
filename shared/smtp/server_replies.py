"""Every reply that our server gives, by name (RFC 5321, 4.2; codes of RFC 3463 and 5248).

A reply that refuses something names the metric label under which it is counted. None tells more
than the client must know: trouble of ours is 451 4.3.0 and nothing else. The wire form is made
once, with the reply.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.smtp.replies import Reply


@dataclass(frozen=True, slots=True)
class ServerReply(Reply):
    """A reply with its bytes. `refusal` is one of `shared.metrics.REFUSALS`, or empty."""

    refusal: str = ""
    wire: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wire", self.to_bytes())


def _syntax(code: int, enhanced: str, text: str) -> ServerReply:
    return ServerReply(code, enhanced, text, "syntax")


def sender_refused(reason: str, code: int = 550) -> ServerReply:
    """A user may not send as somebody: in the header 550, in MAIL 553."""
    return ServerReply(code, "5.7.1", reason, "sender")


# Session

CLOSING = ServerReply(221, "2.0.0", "Bye")  # RFC 5321, 4.1.1.10
SHUTTING_DOWN = ServerReply(421, "4.3.2", "Service is shutting down, try again")  # RFC 5321, 3.8
TOO_MANY_SESSIONS = ServerReply(421, "4.3.2", "Too many sessions, try again later", "load")
TOO_MANY_OF_PLACE = ServerReply(421, "4.7.0", "Too many sessions from your network", "load")
OVERLOADED = ServerReply(421, "4.3.2", "Too busy, try again later", "load")
IDLE_TOO_LONG = ServerReply(421, "4.4.2", "Idle for too long")  # RFC 5321, 4.5.3.2.7
TOO_MANY_ERRORS = ServerReply(421, "4.7.0", "Too many errors", "syntax")
TOO_MANY_COMMANDS = ServerReply(421, "4.7.0", "Too many commands without mail", "load")
TOO_MANY_MAILS = ServerReply(421, "4.7.0", "Too many mails in this session", "load")  # RFC 9422
NOT_A_MAIL_CLIENT = ServerReply(421, "4.7.0", "This is a mail server", "syntax")
UNSYNCHRONIZED = ServerReply(421, "4.7.0", "Input after a refused DATA", "syntax")  # RFC 2920, 3.1


def greeting(hostname: str) -> ServerReply:
    """The first line of a session; it has no enhanced status code (RFC 2034, 4)."""
    return ServerReply(220, "", f"{hostname} ESMTP postroad")


def hello(hostname: str, extensions: Iterable[str] = ()) -> ServerReply:
    """The answer to HELO, or with `extensions` to EHLO (RFC 5321, 4.1.1.1)."""
    return ServerReply(250, "", "\n".join((hostname, *extensions)))


# Commands

OK = ServerReply(250, "2.0.0", "Ok")
NOT_RECOGNIZED = _syntax(500, "5.5.1", "Command not recognized")
BARE_LINE_END = _syntax(500, "5.5.2", "Lines end with CRLF")  # RFC 5321, 2.3.8
LINE_TOO_LONG = _syntax(500, "5.5.2", "Line too long")  # RFC 5321, 4.5.3.1.9
NO_ARGUMENT = _syntax(501, "5.5.4", "This command has no argument")
HELLO_SYNTAX = _syntax(501, "5.5.4", "Give a domain or address literal")
HELLO_FIRST = _syntax(503, "5.5.1", "Send EHLO first")  # RFC 5321, 4.1.4
CANNOT_VERIFY = ServerReply(252, "2.5.0", "Not verified; mail will be tried")  # RFC 5321, 3.5.3
NOT_IMPLEMENTED = _syntax(502, "5.5.1", "Command not implemented")
HELP = ServerReply(214, "2.0.0", "See RFC 5321")

# Parameters

UNKNOWN_PARAMETER = _syntax(555, "5.5.4", "Parameter not recognized")  # RFC 5321, 4.1.1.11
PARAMETER_SYNTAX = _syntax(501, "5.5.4", "Syntax error in parameters")

BY_TOO_SHORT = _syntax(555, "5.5.4", "BY is less than DELIVERBY announced")  # RFC 2852, 2

# MAIL and RCPT

SENDER_OK = ServerReply(250, "2.1.0", "Ok")
RECIPIENT_OK = ServerReply(250, "2.1.5", "Ok")
MAIL_SYNTAX = _syntax(501, "5.5.4", "Syntax: MAIL FROM:<reverse-path>")
RCPT_SYNTAX = _syntax(501, "5.5.4", "Syntax: RCPT TO:<forward-path>")
REVERSE_PATH_SYNTAX = _syntax(501, "5.1.7", "Bad reverse-path")
FORWARD_PATH_SYNTAX = _syntax(501, "5.1.3", "Bad forward-path")
ADDRESS_NEEDS_SMTPUTF8 = _syntax(553, "5.6.7", "This address needs SMTPUTF8")  # RFC 6531, 3.5
NESTED_MAIL = _syntax(503, "5.5.1", "The transaction has begun")  # RFC 5321, 4.1.4
MAIL_FIRST = _syntax(503, "5.5.1", "Send MAIL first")
NO_RECIPIENTS = _syntax(554, "5.5.1", "No valid recipients")  # RFC 5321, 3.3
TOO_MANY_RECIPIENTS = ServerReply(  # RFC 5321, 4.5.3.1.10
    452, "4.5.3", "Too many recipients", "recipients"
)
RELAY_DENIED = ServerReply(550, "5.7.1", "Relaying denied", "relay")
SENDER_REFUSED = sender_refused("This user may not send from this address", 553)
MESSAGE_QUOTA = ServerReply(450, "4.7.1", "The user's messages of this hour are used up", "quota")
RECIPIENT_QUOTA = ServerReply(
    450, "4.7.1", "The user's recipients of this hour are used up", "quota"
)
TOO_LARGE = ServerReply(552, "5.3.4", "Message too large", "size")  # RFC 1870, 6

# Content

CHUNK_SYNTAX = _syntax(501, "5.5.4", "Syntax: BDAT size [LAST]")
CHUNK_TAKEN = ServerReply(250, "2.0.0", "Ok")  # RFC 3030, 2
CHUNK_AFTER_REFUSED = _syntax(503, "5.5.1", "A chunk before this one was refused")
DATA_AFTER_CHUNK = _syntax(503, "5.5.1", "Go on with BDAT, or send RSET")
BINARY_NEEDS_CHUNKS = _syntax(503, "5.5.1", "BINARYMIME comes with BDAT only")  # RFC 3030, 3
START_CONTENT = ServerReply(354, "", "End with <CRLF>.<CRLF>")
BARE_CONTENT_LINE_END = ServerReply(550, "5.5.2", "CR or LF without the other", "content")
NUL_IN_CONTENT = ServerReply(550, "5.6.0", "NUL in the content", "content")
LONG_LINE = ServerReply(550, "5.6.0", "A line is longer than 998 octets", "content")
MAIL_LOOP = ServerReply(554, "5.4.6", "Too many hops", "content")  # RFC 5321, 6.3
HEADER_TOO_LARGE = ServerReply(552, "5.3.4", "The header section is too large", "content")
TROUBLE = ServerReply(451, "4.3.0", "Try again later", "ours")
BLOCKED = ServerReply(452, "4.3.1", "Not enough storage, try again later", "blocked")


def bad_header(reason: str) -> ServerReply:
    """A header section that readers would not agree on."""
    return ServerReply(550, "5.6.0", reason, "content")


def queued(mail_id: str) -> ServerReply:
    """The mail is ours now (RFC 5321, 4.2.5)."""
    return ServerReply(250, "2.0.0", f"Ok: queued as {mail_id}")


# STARTTLS (RFC 3207) and AUTH (RFC 4954)

READY_FOR_TLS = ServerReply(220, "2.0.0", "Go ahead")
TLS_NOT_OFFERED = _syntax(502, "5.5.1", "STARTTLS is not offered")
TLS_ACTIVE = _syntax(503, "5.5.1", "TLS is active")
AUTH_NOT_OFFERED = _syntax(502, "5.5.1", "AUTH is not offered")
AUTH_NEEDS_TLS = ServerReply(538, "5.7.11", "Encryption required", "auth")
AUTH_REQUIRED = ServerReply(530, "5.7.0", "Authentication required", "auth")
AUTH_DONE = _syntax(503, "5.5.1", "Already authenticated")
AUTH_IN_TRANSACTION = _syntax(503, "5.5.1", "Not during a transaction")
AUTH_SYNTAX = _syntax(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
AUTH_RESPONSE = _syntax(501, "5.5.2", "The response cannot be decoded")  # RFC 4954, 4
AUTH_CANCELLED = _syntax(501, "5.7.0", "Authentication cancelled")  # RFC 4954, 4
AUTH_MECHANISM = _syntax(504, "5.5.4", "Mechanism not recognized")
AUTH_LINE_TOO_LONG = _syntax(500, "5.5.6", "Authentication exchange line is too long")
AUTH_OK = ServerReply(235, "2.7.0", "Authentication succeeded")
AUTH_FAILED = ServerReply(535, "5.7.8", "Authentication credentials invalid", "auth")
AUTH_DEFERRED = ServerReply(
    454, "4.7.0", "Too many failed authentications, try again later", "auth"
)
AUTH_BUSY = ServerReply(454, "4.7.0", "Too many authentications at once, try again later", "load")
TOO_MANY_OF_USER = ServerReply(454, "4.7.0", "The user has too many sessions", "quota")
AUTH_TROUBLE = ServerReply(454, "4.7.0", "Temporary authentication failure", "ours")
TOO_MANY_FAILURES = ServerReply(421, "4.7.0", "Too many failed authentications", "auth")
TOO_MANY_GUESSES = ServerReply(
    421, "4.7.0", "Too many failed authentications from your network, try again later", "auth"
)
USER_CHANGED = ServerReply(421, "4.7.0", "The user has changed, authenticate anew", "auth")
