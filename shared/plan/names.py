"""Domains in the one form in which they are compared (pure): lower case A-labels."""

from __future__ import annotations

import idna


def normal_domain(text: str) -> str:
    """The domain as the router knows it; one that cannot exist stays as it was written."""
    text = text.rstrip(".").lower()
    if text.isascii():
        return text
    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return text
