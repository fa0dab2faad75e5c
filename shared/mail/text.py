"""What a content of lines may hold (pure; RFC 5321, 4.5.3.1.6 and RFC 5322, 2.1.1)."""

from __future__ import annotations

import re

LONGEST_LINE = 998
"""Octets of a line without its CRLF."""
_PART = LONGEST_LINE - 1
_LONG = re.compile(rb"[^\r\n]{%d,}" % (LONGEST_LINE + 1))


def has_long_line(content: bytes) -> bool:
    """Whether a line is longer than `LONGEST_LINE`. Looks at every thousandth octet or so."""
    at, size = 0, len(content)
    while size - at > LONGEST_LINE:
        end = content.rfind(b"\n", at, at + LONGEST_LINE + 2)
        if end < 0:
            return True
        at = end + 1
    return False


def folded(content: bytes) -> bytes:
    """With long lines broken, each part but the first begun with a space."""
    return _LONG.sub(_fold, content)


def _fold(match: re.Match[bytes]) -> bytes:
    line = match[0]
    return b"\r\n ".join([line[at : at + _PART] for at in range(0, len(line), _PART)])
