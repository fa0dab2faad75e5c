from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.smtp.data import DataFault, DataReader

LIMIT = 1000


def read(*blocks: bytes, limit: int = LIMIT) -> tuple[bytes | DataFault, bytes] | None:
    """Result and rest, None if the end did not come."""
    reader = DataReader(limit)
    for number, block in enumerate(blocks):
        rest = reader.feed(block)
        if rest is not None:
            return reader.result(), rest + b"".join(blocks[number + 1 :])
    return None


def stuffed(content: bytes) -> bytes:
    """The octets a client sends, written the slow way."""
    lines = content.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines) + b".\r\n"


def reference(stream: bytes) -> tuple[bytes | DataFault, bytes] | None:
    """What the reader must do, octet by octet."""
    end = (b"\r\n" + stream).find(b"\r\n.\r\n")
    if end < 0:
        return None
    content, rest = stream[:end], stream[end + 3 :]
    if b"\r" in content.replace(b"\r\n", b"") or b"\n" in content.replace(b"\r\n", b""):
        return DataFault.BARE_LINE_END, rest
    lines = content.split(b"\r\n")
    content = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
    return (DataFault.TOO_LARGE if len(content) > LIMIT else content), rest


def test_a_content_ends_at_crlf_dot_crlf_and_what_follows_is_given_back() -> None:
    assert read(b"a\r\nb\r\n.\r\nMAIL") == (b"a\r\nb\r\n", b"MAIL")


def test_a_dot_at_once_is_the_empty_content() -> None:
    assert read(b".\r\n") == (b"", b"")
    assert read(b".", b"\r", b"\nQUIT\r\n") == (b"", b"QUIT\r\n")


def test_stuffed_dots_are_taken_away() -> None:
    assert read(b"..\r\n...a\r\nb.\r\n.c\r\n.\r\n") == (b".\r\n..a\r\nb.\r\nc\r\n", b"")


@pytest.mark.parametrize(
    "content",
    [b"a\nb\r\n", b"a\rb\r\n", b"\n.\r\n", b"a\r\r\n", b"\n.\n\r\n", b"\r.\r\r\n", b"\n\r\n"],
)
def test_a_bare_line_end_is_a_fault_found_after_the_true_end(content: bytes) -> None:
    assert read(content + b".\r\nNOOP\r\n") == (DataFault.BARE_LINE_END, b"NOOP\r\n")


LARGE = b"x" * 40_000 + b"\r\n"


@given(st.lists(st.sampled_from([b"a.b", b".", b"..", b"", b"." * 150, b"x."]), max_size=12))
def test_dots_in_a_large_block_are_found_however_many_there_are(lines: list[bytes]) -> None:
    content = LARGE + b"".join(line + b"\r\n" for line in lines)
    assert read(stuffed(content) + b"NOOP\r\n", limit=100_000) == (content, b"NOOP\r\n")
    assert read(stuffed(content)[:-1], b"\nNOOP\r\n", limit=100_000) == (content, b"NOOP\r\n")


def test_a_large_content_is_read_to_its_end_and_not_kept() -> None:
    reader = DataReader(1000)
    for _ in range(50):
        assert reader.feed(b"x" * 100 + b"\r\n") is None
    assert reader.feed(b".\r\nNOOP\r\n") == b"NOOP\r\n"
    assert reader.result() is DataFault.TOO_LARGE
    assert reader.received > 5000


def test_the_limit_counts_the_content_without_stuffed_dots() -> None:
    content = b".\r\n" * 333
    assert read(stuffed(content), limit=999) == (content, b"")
    assert read(stuffed(content), limit=998) == (DataFault.TOO_LARGE, b"")


def test_single_octets_are_joined_as_they_come() -> None:
    reader = DataReader(100_000)
    stream = b"drip\r\n" * 1000 + b".\r\n"
    results = [reader.feed(stream[i : i + 1]) for i in range(len(stream))]
    assert results == [*[None] * (len(stream) - 1), b""]
    assert reader.result() == stream[:-3]


PIECES = st.sampled_from(
    [b"\r\n", b".", b"..", b"\r\n.", b"\r\n.\r\n", b"\r", b"\n", b"x", b"long text"]
)


@given(st.lists(PIECES, max_size=30), st.integers(1, 9))
def test_it_does_what_the_slow_way_does_however_the_blocks_fall(
    pieces: list[bytes], size: int
) -> None:
    stream = b"".join(pieces)
    blocks = [stream[i : i + size] for i in range(0, len(stream), size)]
    assert read(stream) == reference(stream)
    assert read(*blocks) == reference(stream)


@given(st.lists(st.sampled_from([b"", b".", b"..", b".a", b"text", b"\x00\xff"])))
def test_every_proper_content_comes_out_as_it_went_in(lines: list[bytes]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    assert read(stuffed(content) + b"rest") == (content, b"rest")
