"""Header sections as bytes."""

from __future__ import annotations

from shared.mail.headers import header_section


def test_the_section_ends_before_the_empty_line() -> None:
    assert header_section(b"A: 1\r\nB: 2\r\n\r\nbody") == b"A: 1\r\nB: 2\r\n"


def test_a_section_without_an_end_is_bounded() -> None:
    assert header_section(b"x" * 100, limit=10) == b"x" * 10
