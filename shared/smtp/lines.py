"""Splits what a client sends into command lines (pure: bytes in, lines or faults out).

Only CRLF ends a line (RFC 5321, 2.3.8). A line with a CR or LF of its own is a fault: taking it
for two lines is how commands are smuggled. Limits live here, so no caller can buffer too much.
"""

from __future__ import annotations

from enum import Enum

CRLF = b"\r\n"
COMMAND_LIMIT = 512
"""Octets of a command line with its CRLF (RFC 5321, 4.5.3.1.4)."""
EXTENDED_LIMIT = 2048
"""Octets of a line that extensions make longer: MAIL and RCPT with parameters."""
AUTH_LIMIT = 12_288
"""Octets of AUTH and of each line of its exchange (RFC 4954, 4)."""
DISCARD_LIMIT = 1 << 20
"""Octets of one over-long line that are skipped before the session is given up."""

_LIMITS = {b"MAIL": EXTENDED_LIMIT, b"RCPT": EXTENDED_LIMIT, b"AUTH": AUTH_LIMIT}


class LineFault(Enum):
    """A line that is no command."""

    BARE_LINE_END = "CR or LF without the other"
    TOO_LONG = "longer than the limit; skipped to its end"
    ENDLESS = "no end in sight"


class LineReader:
    """Holds what was received and not yet taken, at most one line more than was fed last."""

    __slots__ = ("_buffer", "_discarded", "_start")

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0
        self._discarded = 0

    def __len__(self) -> int:
        """Octets received and not taken."""
        return len(self._buffer) - self._start

    def feed(self, received: bytes) -> None:
        """Add what was received."""
        if self._start < len(self._buffer):
            received = self._buffer[self._start :] + received
        self._buffer, self._start = received, 0

    def take_rest(self) -> bytes:
        """Everything not taken yet, for a reader of something other than commands."""
        rest = self._buffer[self._start :]
        self._buffer, self._start = b"", 0
        return rest

    def next(self, limit: int = 0) -> bytes | LineFault | None:
        """The next line without its CRLF, a fault, or None until more is fed.

        `limit` counts the CRLF; 0 means the limit of the command that the line is.
        """
        buffer, start = self._buffer, self._start
        if start == len(buffer):
            return None
        end = buffer.find(CRLF, start)
        if end < 0:
            return self._incomplete(limit)
        line = buffer[start:end]
        self._start = end + 2
        if self._discarded:
            self._discarded = 0
            return LineFault.TOO_LONG
        if len(line) > COMMAND_LIMIT - 2 and len(line) > (limit or _limit_of(line)) - 2:
            return LineFault.TOO_LONG
        if b"\n" in line or b"\r" in line:
            return LineFault.BARE_LINE_END
        return line

    def _incomplete(self, limit: int) -> LineFault | None:
        if len(self) < EXTENDED_LIMIT:
            return None
        if not self._discarded:
            limit = limit or _limit_of(self._buffer[self._start : self._start + 4])
            if len(self) < limit:
                return None
        kept = self._buffer[-1:] if self._buffer.endswith(b"\r") else b""
        self._discarded += len(self) - len(kept)
        self._buffer, self._start = kept, 0
        return LineFault.ENDLESS if self._discarded > DISCARD_LIMIT else None


def _limit_of(line: bytes) -> int:
    return _LIMITS.get(line[:4].upper(), COMMAND_LIMIT)
