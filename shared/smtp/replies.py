"""Replies as values (RFC 5321, 4.2; enhanced status codes: RFC 3463, RFC 2034)."""

from __future__ import annotations

import re
from dataclasses import dataclass

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
