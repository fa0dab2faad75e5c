"""xtext: printable ASCII, but `+`, `=` and the rest as `+` and two digits (RFC 3461, 4; pure)."""

from __future__ import annotations

import re

XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_PLAIN = re.compile(rb"[!-*,-<>-~]")
_CODED = re.compile(rb"\+([0-9A-F]{2})")


def encode_xtext(text: str) -> str:
    """Any text."""
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(chr(o) if _PLAIN.match(bytes((o,))) else f"+{o:02X}" for o in octets)


def decode_xtext(text: str) -> str:
    """What stands in `text`. Raises ValueError if it is not xtext; "" is."""
    if text and not XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    octets = _CODED.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode("ascii"))
    return octets.decode("utf-8", "surrogateescape")
