"""Reads and writes in bulk, over a real pair of sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from amqp.exceptions import UnexpectedFrame
from hypothesis import given
from hypothesis import strategies as st

from shared.broker.amqp.transport import COPY_BYTES, BufferedTCPTransport

PATIENCE = 10.0


def frame(payload: bytes, channel: int = 1) -> bytes:
    return (
        b"\x01" + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"
    )


def transport_on(ours: socket.socket) -> Any:
    transport: Any = BufferedTCPTransport("unused:1")
    transport.sock = ours
    transport._setup_transport()
    return transport


@pytest.fixture
def ends() -> Iterator[tuple[Any, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    with ours, theirs:
        yield transport_on(ours), theirs


def read(theirs: socket.socket, count: int) -> bytes:
    octets = b""
    while len(octets) < count:
        octets += theirs.recv(count - len(octets))
    return octets


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(1, 60), max_size=8))
def test_frames_come_out_whole_however_the_octets_arrive(
    payloads: list[bytes], cuts: list[int]
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport = transport_on(ours)
        octets = b"".join(map(frame, payloads))
        seen = []
        for cut in [*cuts, len(octets)]:
            part, octets = octets[:cut], octets[cut:]
            if part:
                theirs.sendall(part)
                transport.fill()
            seen += [payload for _, _, payload in transport.frames()]
        assert seen == payloads
        assert not transport.has_frame()


def test_py_amqp_may_read_an_answer_between_two_frames(
    ends: tuple[Any, socket.socket],
) -> None:
    transport, theirs = ends
    theirs.sendall(frame(b"first") + frame(b"answer") + frame(b"last"))
    transport.fill()
    frames = transport.frames()
    assert next(frames)[2] == b"first"
    assert transport.read_frame() == (1, 1, b"answer")
    assert [payload for _, _, payload in frames] == [b"last"]


def test_an_answer_is_waited_for_with_the_question_on_its_way(
    ends: tuple[Any, socket.socket],
) -> None:
    transport, theirs = ends
    transport.hold()
    transport.write(b"question")
    theirs.sendall(frame(b"answer"))
    assert transport.read_frame()[2] == b"answer"
    assert read(theirs, 8) == b"question"


def test_a_frame_without_its_end_is_an_error(ends: tuple[Any, socket.socket]) -> None:
    transport, theirs = ends
    theirs.sendall(frame(b"x")[:-1] + b"\x00")
    transport.fill()
    with pytest.raises(UnexpectedFrame):
        list(transport.frames())


def test_a_broker_that_hangs_up_is_an_error(ends: tuple[Any, socket.socket]) -> None:
    transport, theirs = ends
    theirs.close()
    with pytest.raises(ConnectionResetError):
        transport.fill()


def test_what_is_held_is_written_in_order_with_the_flush(
    ends: tuple[Any, socket.socket],
) -> None:
    transport, theirs = ends
    buffer = bytearray(b"first")
    transport.hold()
    transport.write(memoryview(buffer))
    buffer[:] = b"XXXXX"  # py-amqp writes its next frame into the same buffer
    large = b"l" * COPY_BYTES
    transport.keep([b" head ", large, b" tail "])
    transport.write(b"last")
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    theirs.settimeout(PATIENCE)
    transport.flush()
    expected = b"first head " + large + b" tail last"
    assert read(theirs, len(expected)) == expected
    transport.write(b"at once")
    assert read(theirs, 7) == b"at once"


def test_a_peer_that_reads_nothing_does_not_keep_the_writer(
    ends: tuple[Any, socket.socket],
) -> None:
    transport, theirs = ends
    pieces = [bytes([number]) * 50_000 for number in range(100)] + [b"end"]
    transport.hold()
    transport.keep(pieces)
    transport.flush()
    assert transport.has_unsent()
    expected = b"".join(pieces)
    received = b""
    while len(received) < len(expected):
        received += theirs.recv(1 << 20)
        transport.flush()
    assert received == expected
    assert not transport.has_unsent()


def test_decrypted_octets_that_wait_in_the_tls_layer_are_told(
    ends: tuple[Any, socket.socket],
) -> None:
    transport, _ = ends
    assert not transport.has_more()

    class Decrypted:
        def pending(self) -> int:
            return 3

    transport.sock = Decrypted()
    assert transport.has_more()


def test_a_broker_that_only_sends_heartbeats_does_not_hold_who_waits_for_an_answer(
    ends: tuple[Any, socket.socket],
) -> None:
    transport, theirs = ends
    transport.answer_seconds = 0.0
    beat = b"\x08\x00\x00\x00\x00\x00\x00\xce"
    theirs.sendall(beat + frame(b"something") + beat)
    assert transport.read_frame()[0] == 8  # nothing was asked yet
    transport._write(b"question")
    assert transport.read_frame()[2] == b"something"
    with pytest.raises(TimeoutError, match="does not answer"):
        transport.read_frame()
