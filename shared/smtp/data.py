"""Reads the content after DATA (pure: bytes in, content or a fault out).

Only CRLF.CRLF ends it, "even in the name of improved robustness" (RFC 5321, 4.1.1.4): if we ended
earlier than the client meant, the rest of its message would be taken for commands. A content with
a CR or LF of its own is refused after its true end, since the next hop might end it there.

There is no loop over lines: each step below is one pass in C over a whole block.
"""

from __future__ import annotations

import io
from enum import Enum

END = b"\r\n.\r\n"
_STUFFED = b"\r\n."
_TERMINATOR = 3
"""Octets of `.CRLF`; the CRLF before it belongs to the content (RFC 5321, 4.1.1.4)."""
_LARGE = 32_768
_FEW_DOTS = 200
"""A large block is base64 as a rule: dots are rare, and found a hundred times faster than CRLFs."""
_PIECES = 256
"""Blocks that are joined into one: a drip of single octets must not cost a bytes object each."""


class DataFault(Enum):
    """Why a content cannot be taken."""

    TOO_LARGE = "larger than the limit"
    BARE_LINE_END = "CR or LF without the other"


class DataReader:
    """Collects one content of at most `limit` octets, dots unstuffed (RFC 5321, 4.5.2)."""

    __slots__ = (
        "_fresh",
        "_limit",
        "_newlines",
        "_pieces",
        "_raw_limit",
        "_size",
        "_stuffed",
        "_tail",
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Stuffed dots do not count (RFC 1870, 3); a line they come with has three octets or more.
        self._raw_limit = limit + limit // 3 + len(END)
        self._pieces: list[bytes] = []
        self._fresh = 0
        self._size = 0
        self._stuffed = False
        self._tail = b"\r\n"  # of the DATA command: a dot that comes first may be the end
        self._newlines = io.IncrementalNewlineDecoder(None, translate=False)

    @property
    def received(self) -> int:
        """Octets so far."""
        return self._size

    def feed(self, received: bytes) -> bytes | None:
        """Take a block. Returns what follows the end, once the end has come, else None."""
        end = self._find_end(received)
        if end < 0:
            self._keep(received)
            self._tail = (self._tail + received[-4:])[-4:]
            return None
        self._keep_last(received[:end])
        return received[end:]

    def result(self) -> bytes | DataFault:
        """The content, after the end has come; the blocks are given away."""
        if self._size > self._raw_limit:
            return DataFault.TOO_LARGE
        content = b"".join(self._pieces)
        self._pieces = []
        # "\r\n" alone is what an all-CRLF content has; None is the empty content.
        if self._newlines.newlines not in {"\r\n", None}:
            return DataFault.BARE_LINE_END
        if self._stuffed:
            content = content.replace(_STUFFED, b"\r\n")
        if content.startswith(b"."):
            content = content[1:]
        return DataFault.TOO_LARGE if len(content) > self._limit else content

    def _find_end(self, received: bytes) -> int:
        """Where in `received` the end has passed, or -1."""
        seam = self._tail + received[:4]
        found = seam.find(END)
        if found >= 0:
            return found + len(END) - len(self._tail)
        self._stuffed = self._stuffed or _STUFFED in seam
        found = _find_stuffed(received)
        if found < 0 or received.startswith(END, found):
            return found if found < 0 else found + len(END)
        self._stuffed = True
        found = received.find(END, found)
        return found if found < 0 else found + len(END)

    def _keep(self, block: bytes) -> None:
        self._size += len(block)
        if self._size > self._raw_limit:
            self._pieces.clear()
            return
        self._newlines.decode(block.decode("latin-1"))
        self._pieces.append(block)
        self._fresh += 1
        if self._fresh == _PIECES:
            self._fresh = 0
            self._pieces[-_PIECES:] = [b"".join(self._pieces[-_PIECES:])]

    def _keep_last(self, block: bytes) -> None:
        """Keep the block that ends with the terminator, without it."""
        self._keep(block)
        if not self._pieces:
            return
        if len(self._pieces[-1]) < _TERMINATOR:
            self._pieces = [b"".join(self._pieces)]
        self._pieces[-1] = self._pieces[-1][:-_TERMINATOR]


def _find_stuffed(block: bytes) -> int:
    """Where a line begins with a dot, or -1."""
    if len(block) < _LARGE:
        return block.find(_STUFFED)
    at = block.find(b".")
    for _ in range(_FEW_DOTS):
        if at < 0 or block[max(at - 2, 0) : at] == b"\r\n":
            return at - 2 if at >= 0 else at
        at = block.find(b".", at + 1)
    return block.find(_STUFFED, at - 2) if at >= 0 else at
