"""Replies as values (RFC 5321, 4.2; enhanced status codes: RFC 3463, RFC 2034)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

LONGEST_REPLY = 32_768
"""Octets of one reply, all lines together."""
_COMMON = 512
"""Octets that are worth remembering: peers say the same few things again and again."""
_ONE_LINE = re.compile(rb"([2-5][0-9]{2})[ \r\n](?:([245]\.\d{1,3}\.\d{1,3})\s+)?")
_MARKS = (b" ", b"-", b"\r", b"")
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: three digits, the enhanced status code ("" if none), and its text.

    The text may have several lines, joined by newline characters; it never has CR.
    """

    code: int
    enhanced: str
    text: str

    @property
    def positive(self) -> bool:
        """2yz: the command was carried out."""
        return 200 <= self.code < 300

    @property
    def transient(self) -> bool:
        """4yz: try again later."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5yz: do not try again."""
        return 500 <= self.code < 600

    def to_bytes(self) -> bytes:
        """The wire form, a line each; the enhanced code is repeated on every line (RFC 2034)."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        lines = self.text.split("\n")
        marked = [f"{self.code}-{prefix}{line}\r\n" for line in lines[:-1]]
        marked.append(f"{self.code} {prefix}{lines[-1]}\r\n")
        return "".join(marked).encode("utf-8", "replace")

    def __str__(self) -> str:
        """One line for logs and DSNs."""
        text = self.text.replace("\n", " ")
        return f"{self.code} {self.enhanced} {text}" if self.enhanced else f"{self.code} {text}"


def parse_reply(code: int, text: str) -> Reply:
    """A peer's reply: the enhanced status code is taken off the front of each line."""
    match = _ENHANCED.match(text)
    if match is None or int(match[1][0]) != code // 100:
        return Reply(code, "", text)
    enhanced = match[1]
    lines = [line.removeprefix(enhanced).lstrip(" ") for line in text.split("\n")]
    return Reply(code, enhanced, "\n".join(lines))


@lru_cache(maxsize=1024)
def _common(data: bytes) -> tuple[Reply, ...] | None:
    """The replies that `data` is, None if it is not whole replies."""
    reader = ReplyReader()
    replies = tuple(reader.cut(data))
    return None if reader.fault or reader.amid else replies


def _one_line(line: bytes) -> Reply | None:
    """The reply that `line` is, None if it is none or only a part of one."""
    match = _ONE_LINE.match(line)
    if match is None or len(line) > LONGEST_REPLY:
        return None
    code, enhanced = match.groups(b"")
    if enhanced[:1] not in code[:1]:
        return Reply(int(code), "", _text(line))
    text = _text(line, match.end())
    return Reply(int(code), enhanced.decode(), text.lstrip(" ") if enhanced else text)


def _begins_like_a_reply(line: bytes) -> bool:
    code = line[:3]
    return len(code) == 3 and line[3:4] in _MARKS and code.isdigit() and code[:1] in b"2345"


def _text(line: bytes, start: int = 4) -> str:
    text = line[start:].decode("utf-8", "replace").replace("\r", " ").replace("\0", " ")
    return text.rstrip()


class ReplyReader:
    """What a peer sends, cut into replies. `fault` says why nothing more can be made of it.

    `rest` is what has come of an unfinished line; whoever empties it forgets that.
    """

    def __init__(self) -> None:
        self.fault = ""
        self.rest = bytearray()
        self._lines: list[str] = []
        self._size = 0

    @property
    def amid(self) -> bool:
        """Whether a part of a reply has come."""
        return bool(self.rest or self._lines)

    def feed(self, data: bytes) -> Sequence[Reply]:
        """The replies that are complete now."""
        if self.rest or self._lines:
            return self.cut(data)
        if data.find(b"\n") == len(data) - 1:
            reply = _one_line(data)  # the reply to a content is hardly ever the same twice
            if reply is not None:
                return (reply,)
        elif len(data) <= _COMMON and (known := _common(data)) is not None:
            return known
        return self.cut(data)

    def cut(self, data: bytes) -> list[Reply]:
        """As `feed`, for what peers rarely say."""
        if self.rest and b"\n" in data:
            data = bytes(self.rest) + data
            self.rest.clear()
        replies: list[Reply] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            reply = self._read(data[start:end])
            start = end + 1
            if reply is not None:
                replies.append(reply)
            elif self.fault:
                return replies
        if start < len(data):
            self._keep(data[start:])
        return replies

    def _keep(self, part: bytes) -> None:
        if self._size + len(self.rest) + len(part) > LONGEST_REPLY:
            self.fault = "a reply is too long"
        else:
            self.rest += part

    def _read(self, line: bytes) -> Reply | None:
        self._size += len(line)
        if not _begins_like_a_reply(line):
            self.fault = "a line that is no reply"
        elif self._size > LONGEST_REPLY:
            self.fault = "a reply is too long"
        else:
            self._lines.append(_text(line))
            if line[3:4] != b"-":
                text = "\n".join(self._lines)
                self._lines.clear()
                self._size = 0
                return parse_reply(int(line[:3]), text)
        return None
