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
