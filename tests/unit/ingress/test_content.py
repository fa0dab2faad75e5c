from __future__ import annotations

import pytest

from services.ingress.content import LONGEST_HEADER, MOST_HOPS, inspect, traceparent_of
from shared.messages.model import MessageClass

BULK = MessageClass.BULK


@pytest.mark.parametrize(
    ("field", "named"),
    [
        (b"X-Postroad-Class: bulk\r\n", BULK),
        (b"x-postroad-class:BULK\r\n", BULK),
        (b"X-POSTROAD-CLASS \t: \tbulk \r\n", BULK),
        (b"X-Postroad-Class:\r\n bulk\r\n", BULK),
        (b"X-Postroad-Class: transactional\r\n", MessageClass.TRANSACTIONAL),
        (b"X-Postroad-Class: urgent\r\n", None),
        (b"X-Postroad-Class:\r\n", None),
        (b"X-Postroad-Class: bulk\r\nX-Postroad-Class: transactional\r\n", BULK),
        (b"X-Postroad-Class: urgent\r\nX-Postroad-Class: bulk\r\n", BULK),
    ],
)
def test_the_class_field_is_read_and_taken_out(field: bytes, named: MessageClass | None) -> None:
    before, after = b"Subject: x\r\n", b"From: a@b\r\n\r\nbody\r\n"
    for content, rest in (
        (before + field + after, before + after),
        (field + after, after),
        (before + field, before),
    ):
        inspected = inspect(content)
        assert (inspected.content, inspected.message_class) == (rest, named)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\nX-Postroad-Class: bulk\r\n",
        b"Subject: x\r\n\r\nX-Postroad-Class: bulk\r\n",
        b"Subject: X-Postroad-Class: bulk\r\n\r\n",
        b"X-Postroad-Classes: bulk\r\n\r\n",
        b"Subject: x\r\n X-Postroad-Class: bulk\r\n\r\n",
    ],
)
def test_nothing_else_is_touched(content: bytes) -> None:
    inspected = inspect(content)
    assert inspected.content == content
    assert inspected.message_class is None


def test_the_look_is_bounded() -> None:
    content = b"X: y\r\n" * (LONGEST_HEADER // 6 + 1) + b"X-Postroad-Class: bulk\r\n\r\n"
    assert inspect(content).message_class is None


def test_more_hops_than_allowed_are_a_loop() -> None:
    hop = b"Received: from x\r\n\tby y; date\r\n"
    assert not inspect(hop * MOST_HOPS + b"\r\n" + hop).looping
    assert inspect(hop * (MOST_HOPS + 1) + b"\r\n").looping


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"traceparent: 00-a-b-01\r\n", "00-a-b-01"),
        (b"TraceParent \t:00-a-b-01 \t\r\n", "00-a-b-01"),
        (b"Traceparent:\r\n", ""),
        (b"Traceparent: \xff\r\n", "\xff"),
        (b"Traceparent: a\r\nTraceparent: a\r\n", ""),
        (b"Traceparent: a\r\nSubject: b\r\ntraceparent:\r\n", ""),
        (b"X-Traceparent: a\r\n", ""),
        (b"Subject: x\r\n traceparent: a\r\n", ""),
        (b"\r\nTraceparent: a\r\n", ""),
        (b"", ""),
    ],
)
def test_the_traceparent_is_the_only_one_in_the_header(field: bytes, value: str) -> None:
    assert traceparent_of(field + b"From: a@b\r\n\r\nTraceparent: body\r\n") == value


def test_a_folded_traceparent_is_no_good_one() -> None:
    assert "\r\n" in traceparent_of(b"Traceparent: 00-\r\n a-b-01\r\n\r\n")
