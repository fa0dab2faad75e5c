from __future__ import annotations

import pytest

from shared.metrics import REFUSALS
from shared.smtp import server_replies
from shared.smtp.server_replies import ServerReply

REPLIES = [value for value in vars(server_replies).values() if isinstance(value, ServerReply)]
REPLIES += [
    server_replies.greeting("mta.example.net"),
    server_replies.hello("mta.example.net", ["PIPELINING", "SIZE 1"]),
    server_replies.queued("ID"),
]


@pytest.mark.parametrize("reply", REPLIES, ids=str)
def test_each_reply_is_well_formed(reply: ServerReply) -> None:
    assert reply.wire == reply.to_bytes()
    assert reply.wire.isascii()
    assert all(len(line) <= 512 for line in reply.wire.splitlines(keepends=True))
    assert reply.text
    assert reply.refusal in {"", *REFUSALS}
    # A refusal is counted; a success is not one (RFC 2034: classes of the two codes agree).
    if reply.enhanced:
        assert reply.enhanced[0] == str(reply.code)[0]
    if reply.positive or reply.code == 354:
        assert not reply.refusal


def test_a_reply_of_several_lines_marks_all_but_the_last() -> None:
    assert server_replies.hello("h", ["A", "B"]).wire == b"250-h\r\n250-A\r\n250 B\r\n"


def test_our_trouble_is_told_without_detail() -> None:
    assert server_replies.TROUBLE.wire == b"451 4.3.0 Try again later\r\n"
