from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.smtp.lines import (
    AUTH_LIMIT,
    COMMAND_LIMIT,
    DISCARD_LIMIT,
    EXTENDED_LIMIT,
    LineFault,
    LineReader,
)


def lines(*blocks: bytes) -> list[bytes | LineFault]:
    reader = LineReader()
    found: list[bytes | LineFault] = []
    for block in blocks:
        reader.feed(block)
        while (line := reader.next()) is not None:
            found.append(line)
    return found


def test_lines_end_with_crlf_wherever_blocks_end() -> None:
    assert lines(b"NOOP\r\nQUI", b"T\r", b"\n") == [b"NOOP", b"QUIT"]
    assert lines(b"\r\n\r\n") == [b"", b""]


@pytest.mark.parametrize("line", [b"a\nb", b"a\rb", b"a\r", b"\n", b"\ra"])
def test_a_line_with_a_line_end_of_its_own_is_a_fault(line: bytes) -> None:
    assert lines(line + b"\r\nNOOP\r\n") == [LineFault.BARE_LINE_END, b"NOOP"]


@pytest.mark.parametrize(("verb", "limit"), [(b"NOOP ", 512), (b"rcpt ", 2048), (b"auth ", 12288)])
def test_the_limit_is_that_of_the_command_and_counts_crlf(verb: bytes, limit: int) -> None:
    longest = verb.ljust(limit - 2, b"x")
    assert lines(longest + b"\r\n") == [longest]
    assert lines(longest + b"x\r\nNOOP\r\n") == [LineFault.TOO_LONG, b"NOOP"]


def test_a_caller_may_set_the_limit() -> None:
    reader = LineReader()
    longest = b"x" * (AUTH_LIMIT - 2)
    for block in (longest[:5000], longest[5000:]):
        reader.feed(block)
        assert reader.next(AUTH_LIMIT) is None
    reader.feed(b"\r\n")
    assert reader.next(AUTH_LIMIT) == longest


def test_a_long_auth_command_may_come_in_many_blocks() -> None:
    longest = b"AUTH ".ljust(AUTH_LIMIT - 2, b"x")
    assert lines(longest[:3000], longest[3000:9000], longest[9000:] + b"\r\n") == [longest]


def test_a_long_line_is_skipped_to_its_end_and_not_kept() -> None:
    reader = LineReader()
    for _ in range(100):
        reader.feed(b"x" * 4096)
        assert reader.next() is None
        assert len(reader) < EXTENDED_LIMIT
    reader.feed(b"\r\nNOOP\r\n")
    assert reader.next() is LineFault.TOO_LONG
    assert reader.next() == b"NOOP"


def test_a_long_line_may_end_between_two_blocks() -> None:
    assert lines(b"x" * 5000 + b"\r", b"\nNOOP\r\n") == [LineFault.TOO_LONG, b"NOOP"]


def test_a_line_without_end_is_given_up() -> None:
    assert LineFault.ENDLESS in lines(*[b"x" * 65536] * (DISCARD_LIMIT // 65536 + 1))


def test_the_rest_can_be_taken_for_another_reader() -> None:
    reader = LineReader()
    reader.feed(b"DATA\r\nbody")
    assert reader.next() == b"DATA"
    assert (reader.take_rest(), len(reader), reader.next()) == (b"body", 0, None)


@given(st.lists(st.binary(max_size=40)), st.integers(1, 7))
def test_blocks_make_no_difference(parts: list[bytes], size: int) -> None:
    stream = b"\r\n".join(parts)
    blocks = [stream[i : i + size] for i in range(0, len(stream), size)]
    assert lines(*blocks) == lines(stream)


@given(st.lists(st.text("abc \x00é", max_size=COMMAND_LIMIT // 2 - 4)))
def test_every_proper_line_comes_out_as_it_went_in(texts: list[str]) -> None:
    sent = [text.encode() for text in texts]
    assert lines(b"".join(line + b"\r\n" for line in sent)) == sent
