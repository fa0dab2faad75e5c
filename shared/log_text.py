"""Text of strangers in log lines (pure): nothing in it breaks a line or drives a terminal."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(enc_hook=repr)


def to_json(value: Any) -> bytes:
    """One JSON line without control characters, whatever text it holds."""
    try:
        line = _encoder.encode(value)
    except UnicodeEncodeError:  # a lone surrogate: text that came as bytes which are not UTF-8
        return json.dumps(msgspec.to_builtins(value, enc_hook=repr)).encode("ascii")
    if line.isascii() and b"\x7f" not in line:
        return line
    return escape(line.decode("utf-8")).encode("utf-8")


def escape(text: str) -> str:
    r"""`text` with each character that a terminal might obey or hide written as `\u001b`."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else _written(mark) for mark in text)


def _written(mark: str) -> str:
    """As JSON writes it: beyond U+FFFF in two halves."""
    octets = mark.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{octets[at : at + 2].hex()}" for at in range(0, len(octets), 2))
