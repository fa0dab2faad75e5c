"""A content that comes in chunks of announced size (RFC 3030, pure): BDAT.

Nothing in a chunk is looked for, so nothing in it can end it. A chunk that is refused is read to
its end all the same: what follows must not be taken for commands.
"""

from __future__ import annotations

import io
import re

from shared.smtp.data import DataFault
from shared.smtp.errors import ProtocolError
from shared.smtp.server_replies import CHUNK_SYNTAX

_ARGUMENT = re.compile(rb"([0-9]{1,12})( +LAST)?", re.IGNORECASE)


_PIECES = 256
"""Blocks that are joined into one: a drip of single octets must not cost an object each."""


class Chunk:
    """One chunk of `size` octets, of which those of a refused one are forgotten."""

    __slots__ = ("_content", "_left", "last", "size")

    def __init__(self, size: int, *, last: bool) -> None:
        self.size = size
        self.last = last
        self._left = size
        self._content: ChunkedContent | None = None

    @property
    def received(self) -> int:
        """Octets so far."""
        return self.size - self._left

    def keep_in(self, content: ChunkedContent) -> None:
        """Its octets are wanted."""
        self._content = content

    def feed(self, received: bytes) -> bytes | None:
        """Take a block. Returns what follows the chunk, once it is whole, else None."""
        mine = received[: self._left]
        if mine and self._content is not None:
            self._content.add(mine)
        self._left -= len(mine)
        return received[len(mine) :] if not self._left else None


class ChunkedContent:
    """The chunks of one transaction, at most `limit` octets together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._pieces: list[bytes] = []
        self._fresh = 0

    def admit(self, chunk: Chunk) -> bool:
        """Whether there is room for one more."""
        self._size += chunk.size
        if self._size > self._limit:
            self._pieces = []
            return False
        chunk.keep_in(self)
        return True

    def add(self, block: bytes) -> None:
        """Some octets of a chunk that was admitted."""
        self._pieces.append(block)
        self._fresh += 1
        if self._fresh == _PIECES:
            self._fresh = 0
            self._pieces[-_PIECES:] = [b"".join(self._pieces[-_PIECES:])]

    def result(self, *, binary: bool) -> bytes | DataFault:
        """The content. Lines end with CRLF unless it is `binary`."""
        content = b"".join(self._pieces)
        if binary:
            return content
        newlines = io.IncrementalNewlineDecoder(None, translate=False)
        newlines.decode(content.decode("latin-1"), final=True)
        return content if newlines.newlines in {"\r\n", None} else DataFault.BARE_LINE_END


def parse_bdat(argument: bytes) -> Chunk:
    """What follows `BDAT `. Raises `ProtocolError`; how many octets follow is then unknown."""
    match = _ARGUMENT.fullmatch(argument)
    if match is None:
        raise ProtocolError(CHUNK_SYNTAX)
    return Chunk(int(match[1]), last=match[2] is not None)
