"""A publish, octet for octet as py-amqp would have written it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from amqp import Message, spec
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from hypothesis import given
from hypothesis import strategies as st

from shared.broker.amqp.frames import FRAME_OVERHEAD, publish_frames

FRAME_MAX = 256
CHANNEL = 7
texts = st.text(max_size=60)


class Written:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.octets = b""

    def write(self, octets: memoryview | bytes) -> None:
        self.octets += bytes(octets)


def by_py_amqp(key: str, name: str, headers: dict[str, str], body: bytes) -> bytes:
    written = Written()
    connection = SimpleNamespace(frame_max=1 << 20, bytes_sent=0)
    properties = {"application_headers": headers} if headers else {}
    message = Message(
        body,
        delivery_mode=2,
        message_id=name,
        content_type="application/octet-stream",
        content_encoding="binary",
        **properties,
    )
    arguments = dumps("Bssbb", (0, "", key, True, False))
    frame_writer(connection, written)(1, CHANNEL, spec.Basic.Publish, arguments, message)
    return written.octets


def by_us(
    key: str, name: str, headers: dict[str, str], body: bytes, longest: int = 1 << 20
) -> bytes:
    frames = publish_frames(
        CHANNEL,
        routing_key=key,
        message_id=name,
        headers=headers,
        body=body,
        longest_frame=longest,
    )
    return b"".join(frames)


@given(texts, texts, st.dictionaries(texts, st.text(max_size=300), max_size=3), st.binary())
def test_it_is_what_py_amqp_writes(
    key: str, name: str, headers: dict[str, str], body: bytes
) -> None:
    assert by_us(key, name, headers, body) == by_py_amqp(key, name, headers, body)


@given(st.integers(0, 1000))
def test_a_long_body_goes_in_frames_that_the_broker_takes(size: int) -> None:
    body = bytes(index % 251 for index in range(size))
    octets = by_us("q", "id", {}, body, FRAME_MAX)
    kinds, parts = [], []
    while octets:
        length = int.from_bytes(octets[3:7], "big")
        assert length + FRAME_OVERHEAD <= FRAME_MAX
        assert octets[7 + length] == 0xCE
        kinds.append(octets[0])
        parts.append(octets[7 : 7 + length])
        octets = octets[length + FRAME_OVERHEAD :]
    assert kinds[:2] == [1, 2]
    assert set(kinds[2:]) <= {3}
    assert b"".join(parts[2:]) == body


def test_a_body_is_not_copied() -> None:
    body = b"x" * 65_536
    frames = publish_frames(
        1, routing_key="q", message_id="id", headers={}, body=body, longest_frame=131_072
    )
    assert any(piece is body for piece in frames)


def test_a_name_that_amqp_cannot_carry_is_an_error() -> None:
    with pytest.raises(ValueError, match="256"):
        by_us("q", "x" * 256, {}, b"")


def test_text_that_is_not_unicode_is_carried() -> None:
    assert by_us("q", "id", {"detail": "\ud800"}, b"") == by_py_amqp(
        "q", "id", {"detail": "\ud800"}, b""
    )
