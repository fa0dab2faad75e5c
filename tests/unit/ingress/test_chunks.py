"""Chunks in any division, over blocks in any division."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.chunks import Chunk, ChunkedContent, parse_bdat
from shared.smtp.data import DataFault
from shared.smtp.errors import ProtocolError

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=5)


@given(SIZES, st.integers(1, 7), st.data())
def test_a_content_is_what_its_chunks_held(
    sizes: list[int], block: int, data: st.DataObject
) -> None:
    octets = data.draw(st.binary(min_size=sum(sizes), max_size=sum(sizes)))
    stream, content, at = octets + b"QUIT", ChunkedContent(100), 0
    for size in sizes:
        chunk = Chunk(size, last=False)
        assert content.admit(chunk)
        rest = chunk.feed(b"")
        while rest is None:
            received = stream[at : at + block]
            at += len(received)
            rest = chunk.feed(received)
        at -= len(rest)
    assert content.result(binary=True) == octets
    assert stream[at:] == b"QUIT"


def test_a_drip_of_octets_is_joined_and_a_refused_chunk_is_swallowed() -> None:
    content, chunk = ChunkedContent(5000), Chunk(5000, last=True)
    assert content.admit(chunk)
    for _ in range(4999):
        assert chunk.feed(b"x") is None
    assert chunk.feed(b"xy") == b"y"
    assert content.result(binary=False) == b"x" * 5000
    refused = Chunk(1, last=True)
    assert not content.admit(refused)
    assert refused.feed(b"zNOOP") == b"NOOP"


@pytest.mark.parametrize("content", [b"a\nb", b"a\rb", b"\n\r"])
def test_lines_end_with_crlf_unless_the_content_is_binary(content: bytes) -> None:
    def kept(*, binary: bool) -> bytes | DataFault:
        chunks, chunk = ChunkedContent(10), Chunk(len(content), last=True)
        chunks.admit(chunk)
        chunk.feed(content)
        return chunks.result(binary=binary)

    assert kept(binary=False) is DataFault.BARE_LINE_END
    assert kept(binary=True) == content


@given(st.from_regex(rb"[0-9 ]{0,14}(LAST)?", fullmatch=True) | st.binary(max_size=20))
def test_any_argument_is_a_size_or_one_error(argument: bytes) -> None:
    chunk: Chunk | None = None
    with contextlib.suppress(ProtocolError):
        chunk = parse_bdat(argument)
    digits, _, last = argument.partition(b" ")
    wanted = digits.isdigit() and len(digits) <= 12 and last.strip(b" ").upper() in {b"", b"LAST"}
    assert (chunk is not None) == (wanted and argument == argument.rstrip(b" "))


def test_last_is_read_in_any_case() -> None:
    assert parse_bdat(b"5 last").last
    assert (parse_bdat(b"07").size, parse_bdat(b"07").last) == (7, False)
