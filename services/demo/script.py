"""How a receiver behaves, as one frozen value, and what it received, as others.

Pure: no sockets and no clock. A `Script()` without arguments is a well-behaved mail exchanger that
takes everything; each field spoils one thing. The receiver asks `reply_to_recipient` and
`extension_lines` and does what the fields say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from shared.smtp.replies import Reply

OK = Reply(250, "2.0.0", "Ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
NO_SUCH_MAILBOX = Reply(550, "5.1.1", "No such mailbox")
GREYLISTED = Reply(451, "4.7.1", "Greylisted, try again later")


class Stage(StrEnum):
    """A point of the session at which the script can interfere.

    CHUNK is a BDAT that is not the last, DOT the end of the content by whichever command.
    """

    BANNER = "banner"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CHUNK = "chunk"
    DOT = "dot"
    RSET = "rset"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class Greylist:
    """Each new (reverse-path, forward-path) is refused for `tries` times and for `seconds`.

    Only forward-paths that begin with `prefix` are meant.
    """

    tries: int = 1
    seconds: float = 0.0
    prefix: str = ""

    def refuses(self, tries_before: int, seconds_since_first: float) -> bool:
        """Whether a try is still too early."""
        return tries_before < self.tries or seconds_since_first < self.seconds


@dataclass(frozen=True, slots=True)
class Script:
    """The behaviour of a receiver.

    `replies`: instead of the usual reply at a stage; bytes go out as they are, CRLF included.
    `recipients`: reply to RCPT by forward-path; a key ending in `@` matches in every domain.
    `refused`: forward-paths (same matching) answered 550 5.1.1.
    `drop_at`: stages at which the connection is closed instead of a reply; `Stage.DOT` closes
    after the final dot (the transaction is then in `Receiver.unanswered`).
    `delays`: seconds to wait before the reply of a stage.
    `endless`: stages answered by a multiline reply that never ends.
    `after_starttls`: bytes that follow the 220 of STARTTLS in the same write.
    `hidden`: extension keywords left out of the EHLO reply; `shown`: some more that are in it.
    `size`: the octets announced by SIZE; a larger message is answered 552.
    """

    replies: Mapping[Stage, Reply | bytes] = field(default_factory=dict)
    recipients: Mapping[str, Reply | bytes] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    greylist: Greylist | None = None
    drop_at: frozenset[Stage] = frozenset()
    delays: Mapping[Stage, float] = field(default_factory=dict)
    endless: frozenset[Stage] = frozenset()
    after_starttls: bytes = b""
    hidden: frozenset[str] = frozenset()
    shown: tuple[str, ...] = ()
    size: int = 100 << 20

    def reply_to_recipient(self, forward_path: str) -> Reply | bytes | None:
        """The scripted reply for this forward-path, None when it is welcome."""
        local_part = forward_path.rpartition("@")[0] + "@"
        for key in (forward_path, local_part):
            if key in self.recipients:
                return self.recipients[key]
            if key in self.refused:
                return NO_SUCH_MAILBOX
        return self.replies.get(Stage.RCPT)

    def extension_lines(self, with_tls: bool) -> list[str]:
        """The lines of the EHLO reply after the first."""
        lines = ["PIPELINING", f"SIZE {self.size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if with_tls:
            lines.append("STARTTLS")
        lines += self.shown
        return [line for line in lines if line.split(" ", 1)[0] not in self.hidden]


@dataclass(frozen=True, slots=True)
class Received:
    """One transaction that reached the final dot.

    `recipients` are those answered 250. `content` is dot-unstuffed, `header` its part before the
    empty line. With `keep="headers"` the content is empty and `body_digest` is the SHA-256 (hex)
    of what follows the empty line. `at` is seconds since the epoch; `connection` counts from 1.
    """

    reverse_path: str
    recipients: tuple[str, ...]
    header: bytes
    content: bytes
    size: int
    body_digest: str
    at: float
    connection: int
    helo: str
    tls: bool
    mail_parameters: tuple[str, ...] = ()

    def header_value(self, name: str) -> str:
        """The first value of a header field, "" if there is none; fields are not unfolded."""
        prefix = name.lower().encode() + b":"
        for line in self.header.split(b"\r\n"):
            if line[: len(prefix)].lower() == prefix:
                return line[len(prefix) :].strip().decode("utf-8", "replace")
        return ""
