"""Whatever a receiver sends: replies in order or one lost link, no exception and no growth."""

from __future__ import annotations

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.delivery.client import PipelinedProtocol
from shared.smtp.replies import LONGEST_REPLY, ReplyReader

LONG = 60.0
WELL_FORMED = st.lists(
    st.tuples(
        st.integers(200, 599).filter(lambda code: code != 421),
        st.lists(st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b""))),
    ),
    min_size=1,
    max_size=8,
)
TEXT = st.text(st.characters(codec="ascii", exclude_characters="\n"), max_size=100)


class Wire(asyncio.Transport):
    """Takes everything, and says when it was cut."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = False

    def write(self, data: object) -> None:
        pass

    def is_closing(self) -> bool:
        return self.cut

    def abort(self) -> None:
        self.cut = True


def connected() -> PipelinedProtocol:
    protocol = PipelinedProtocol(asyncio.get_running_loop())
    protocol.connection_made(Wire())
    return protocol


def in_chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


async def feed(data: bytes, size: int, expected: int) -> None:
    protocol = connected()
    futures = [protocol.ask(b"x", (LONG,) * count) for count in (expected, 1) if count]
    for chunk in in_chunks(data, size):
        protocol.data_received(chunk)
        assert len(protocol._buffer) <= LONGEST_REPLY or protocol.loss is not None
    protocol.connection_lost(None)
    replies = [reply for future in futures for reply in future.result()]
    lost = [reply is protocol.loss for reply in replies]
    assert lost == sorted(lost)  # once the link is lost, it is lost for all that follow
    assert all(200 <= reply.code < 600 for reply in replies)


@given(st.binary(max_size=400), st.integers(1, 50), st.integers(0, 5))
def test_arbitrary_bytes(data: bytes, size: int, expected: int) -> None:
    asyncio.run(feed(data, size, expected))


@given(
    st.lists(st.sampled_from([b"250", b"999", b"25", b"-", b" ", b"\r\n", b"\n", b"\x00", b"421"])),
    st.integers(1, 9),
    st.integers(0, 5),
)
@example([b"250", b"\r\n", b"25", b"\n"], 1, 0)
def test_bytes_that_look_like_replies(parts: list[bytes], size: int, expected: int) -> None:
    asyncio.run(feed(b"".join(parts), size, expected))


async def read(replies: list[tuple[int, list[bytes]]], size: int) -> list[int]:
    protocol = connected()
    future = protocol.ask(b"x", (LONG,) * len(replies))
    data = b"220 banner\r\n"
    for code, lines in replies:
        data += b"".join(b"%d-%b\r\n" % (code, line) for line in lines) + b"%d end\r\n" % code
    for chunk in in_chunks(data, size):
        protocol.data_received(chunk)
    protocol.connection_lost(None)
    return [reply.code for reply in future.result()]


@given(WELL_FORMED, st.integers(1, 40))
def test_replies_arrive_in_order_however_they_are_cut(
    replies: list[tuple[int, list[bytes]]], size: int
) -> None:
    assert asyncio.run(read(replies, size)) == [code for code, _ in replies]


async def pour(piece: bytes) -> int:
    protocol = connected()
    protocol.ask(b"x", (LONG,))
    poured = 0
    while protocol.loss is None:
        protocol.data_received(piece)
        poured += len(piece)
        assert poured < 10 * LONGEST_REPLY
    return poured


@settings(deadline=None)  # tens of thousands of octets, one by one
@given(st.sampled_from([b"250-and more\r\n", b"x", b"250-\r\n", b"2", b"\x00" * 100]))
def test_a_reply_without_end_ends_the_link(piece: bytes) -> None:
    assert asyncio.run(pour(piece)) <= 4 * LONGEST_REPLY


@given(st.integers(200, 599), st.sampled_from(["", "2.1.5 ", "5.7.1 "]), TEXT)
def test_a_line_is_read_as_a_reply_of_many_lines_would_be(
    code: int, enhanced: str, text: str
) -> None:
    line = f"{code} {enhanced}{text}\r\n".encode()
    (alone,) = ReplyReader().feed(line)
    (last,) = ReplyReader().feed(b"%d-%bx\r\n" % (code, enhanced.encode()) + line)
    assert (alone.code, alone.enhanced) == (last.code, last.enhanced)
    assert last.text.endswith(alone.text)
