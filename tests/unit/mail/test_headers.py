"""Header sections as bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.mail.headers import header_section, take_header

NAME = b"x-postroad-class"


def test_the_section_ends_before_the_empty_line() -> None:
    assert header_section(b"A: 1\r\nB: 2\r\n\r\nbody") == b"A: 1\r\nB: 2\r\n"


def test_a_section_without_an_end_is_bounded() -> None:
    assert header_section(b"x" * 100, limit=10) == b"x" * 10


def test_a_header_is_taken_out_whatever_its_case_and_folding() -> None:
    content = b"A: 1\r\nX-Postroad-CLASS:\r\n\tbulk\r\nB: 2\r\n\r\nX-Postroad-Class: body\r\n"
    value, rest = take_header(content, NAME)
    assert value is not None
    assert value.strip() == b"bulk"
    assert rest == b"A: 1\r\nB: 2\r\n\r\nX-Postroad-Class: body\r\n"


def test_repeated_headers_all_go_and_the_first_counts() -> None:
    value, rest = take_header(b"X-Postroad-Class: a\r\nX-Postroad-Class: b\r\n\r\n", NAME)
    assert (value, rest) == (b"a", b"\r\n")


@given(st.binary(max_size=200))
def test_a_content_without_the_header_is_untouched(content: bytes) -> None:
    if NAME not in content.lower():
        assert take_header(content, NAME) == (None, content)
