"""The header section of a content, as bytes (pure). Nothing is parsed beyond what is asked for."""

from __future__ import annotations

SCAN_LIMIT = 1 << 20
"""Octets of a header section that are looked at; mail without an end of headers is bounded too."""

_END = b"\r\n\r\n"


def header_section(content: bytes | memoryview, limit: int = SCAN_LIMIT) -> bytes:
    """The header lines, each with its CRLF, at most `limit` octets."""
    head = bytes(content[: limit + len(_END)])
    end = head.find(_END)
    return head[:limit] if end < 0 else head[: min(end + 2, limit)]


def take_header(content: bytes, name: bytes) -> tuple[bytes | None, bytes]:
    """The first value of header `name` (lower case), and the content without any such header.

    The value is unfolded and stripped; None if there is no such header.
    """
    end = content.find(_END, 0, SCAN_LIMIT)
    section = content[: end + 2] if end >= 0 else content[:SCAN_LIMIT]
    lower = section.lower()
    wanted = name + b":"
    if wanted not in lower:
        return None, content
    value: bytes | None = None
    kept: list[bytes] = []
    dropping = False
    for line in section.splitlines(keepends=True):
        if line[:1] in (b" ", b"\t"):
            if dropping and value is not None:
                value += b" " + line.strip()
        else:
            dropping = line[: len(wanted)].lower() == wanted
            if dropping and value is None:
                value = line[len(wanted) :].strip()
        if not dropping:
            kept.append(line)
    if value is None:
        return None, content
    return value, b"".join([*kept, content[len(section) :]])
