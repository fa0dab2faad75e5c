"""What the replies of one transaction mean, and how a content is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.attempt import Result, judge
from services.delivery.dialogue import Said
from services.delivery.hop import extensions
from services.delivery.upload import stuffed
from shared.messages.outcome import Deferred, Delivered, Failed, Unknown
from shared.smtp.replies import Reply

OK = Reply(250, "2.0.0", "ok")
GO = Reply(354, "", "go")
LATER = Reply(450, "4.2.0", "later")
NO = Reply(550, "5.1.1", "no")
CLOSING = Reply(421, "4.3.2", "closing")
LOSS = Reply(421, "4.4.2", "Connection lost: it is gone")


@pytest.mark.parametrize(
    ("said", "loss", "result"),
    [
        (Said(OK, [OK], None, OK), None, Result((Delivered(OK),))),
        (Said(OK, [OK], None, NO), None, Result((Failed(NO, "address"),))),
        (Said(OK, [OK], None, CLOSING), None, Result((Deferred(CLOSING),))),
        (Said(OK, [OK, NO], None, LOSS), LOSS, Result((Unknown(LOSS), Failed(NO, "address")))),
        (Said(LOSS, [LOSS], None, LOSS), LOSS, Result((Unknown(LOSS),))),
        (Said(OK, [OK, LOSS], None, LOSS), LOSS, Result((Unknown(LOSS),) * 2)),
        (Said(OK, [OK], None, GO, garbled=True), LOSS, Result((Unknown(LOSS),))),
        (
            Said(OK, [OK], GO, garbled=True),
            LOSS,
            Result((None,), Deferred(LOSS, "connect"), not_begun=True),
        ),
        (Said(OK, [OK], CLOSING), None, Result((None,), Deferred(CLOSING), not_begun=True)),
        (Said(OK, [OK], LATER), None, Result((Deferred(LATER, "mailbox"),))),
        (
            Said(OK, [NO, CLOSING]),
            LOSS,
            Result((Failed(NO, "address"), None), Deferred(CLOSING), not_begun=True),
        ),
        (Said(LATER, [LATER]), None, Result((None,), Deferred(LATER, "mailbox"))),
        (Said(NO, [NO]), None, Result((Failed(NO, "address"),))),
        (Said(CLOSING), None, Result((None,), Deferred(CLOSING), not_begun=True)),
        (Said(OK, [OK]), LOSS, Result((None,), Deferred(LOSS, "connect"), not_begun=True)),
    ],
)
def test_what_replies_mean(said: Said, loss: Reply | None, result: Result) -> None:
    assert judge(said, loss, len(result.outcomes)) == result


@pytest.mark.parametrize(
    ("content", "written"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\n..b\r\n", b"a\r\n..\r\n...b\r\n.\r\n"),
    ],
)
def test_dots_are_stuffed(content: bytes, written: bytes) -> None:
    assert b"".join(stuffed(content)) == written


@given(
    st.lists(st.sampled_from([b".", b"\r\n", b"a", b"..", b"x" * 50]), max_size=30),
    st.integers(0, 800),
)
def test_dots_of_a_large_content_are_stuffed_as_those_of_a_small_one(
    parts: list[bytes], dots: int
) -> None:
    head = b"x" * 200_000 + b"." * dots
    content = head + b"".join(parts)
    assert stuffed(content)[0] == content.replace(b"\r\n.", b"\r\n..")


def test_a_content_without_dots_is_not_copied() -> None:
    content = b"a line\r\n" * 10
    assert stuffed(content)[0] is content


def test_extensions_are_read_in_lower_case_with_their_parameters() -> None:
    reply = Reply(250, "", "mx.b.test\nPipelining\nSIZE 1000 x\n\n8BITMIME ")
    assert extensions(reply) == {"pipelining": "", "size": "1000 x", "8bitmime": ""}
