"""What is done to the header section of submitted mail, and what never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.content import LONGEST_HEADER
from services.ingress.hygiene import MOST_FIELDS, Submission, _fields, prepare
from shared.smtp.server_replies import HEADER_TOO_LARGE, ServerReply

COMPLETE = b"From: a@b.test\r\nDate: x\r\nMessage-ID: <x@b.test>\r\n"


def submission(reverse_path: str = "a@b.test", may_send: bool = True) -> Submission:
    return Submission("ID", "mta.test", 1_795_680_000.0, reverse_path, lambda _: may_send)


def reason(content: bytes, reverse_path: str = "a@b.test", may_send: bool = True) -> str:
    found = prepare(content, submission(reverse_path, may_send))
    assert isinstance(found, ServerReply)
    return str(found)


@pytest.mark.parametrize(
    "body", [b"", b"\r\n", b"\r\nbody\r\nBcc: x\r\n", b"\r\n\r\n\r\nFrom: y\r\n"]
)
def test_a_complete_mail_is_the_same_object(body: bytes) -> None:
    content = COMPLETE + b"To: c@d.test,\r\n\te@f.test\r\n" + body
    assert prepare(content, submission()) is content


def test_what_is_missing_comes_at_the_end_of_the_headers() -> None:
    assert prepare(b"Subject: x\r\n\r\nbody\r\n", submission()) == (
        b"Subject: x\r\nFrom: <a@b.test>\r\nDate: Thu, 26 Nov 2026 08:00:00 +0000\r\n"
        b"Message-ID: <ID@mta.test>\r\n\r\nbody\r\n"
    )
    found = prepare(b"", submission())
    assert isinstance(found, bytes)
    assert found.endswith(b"Message-ID: <ID@mta.test>\r\n\r\n")
    assert prepare(b"\r\nbody\r\n", submission()) == found + b"body\r\n"


def test_many_folds_take_linear_time() -> None:
    folded = b"Subject: x\r\n" + b" \r\n" * 1_000_000
    found = _fields(b"To: a@b.test,\r\n c@d.test\r\n" + folded)
    assert not isinstance(found, ServerReply)
    assert [(field.name, len(field.raw)) for field in found] == [
        (b"to", 26),
        (b"subject", len(folded)),
    ]


def test_what_names_the_trace_of_a_client_is_for_us_alone() -> None:
    content = b"TraceParent: 00-1-2-01\r\nTracestate: a=1,\r\n b=2\r\n" + COMPLETE + b"\r\nx\r\n"
    assert prepare(content, submission()) == COMPLETE + b"\r\nx\r\n"


def test_every_bcc_goes_with_its_folds_however_it_is_written() -> None:
    content = (
        COMPLETE
        + b"BCC : a@b.test,\r\n c@d.test\r\nResent-Bcc:x\r\nBcc:\r\nBccc: stays\r\n\r\nx\r\n"
    )
    assert prepare(content, submission()) == COMPLETE + b"Bccc: stays\r\n\r\nx\r\n"


@pytest.mark.parametrize("name", ["From", "Sender", "Reply-To", "Date", "Message-ID", "Subject"])
def test_what_may_come_once_comes_once(name: str) -> None:
    line = f"{name}: a@b.test\r\n".encode()
    assert reason(line + line.upper() + b"\r\n").startswith("550 5.6.0 More than one ")


@pytest.mark.parametrize(
    ("header", "line"),
    [
        (b"hello\r\n", 1),
        (b" folded\r\n", 1),
        (b"A: b\r\nC d: e\r\n", 2),
        (b"A: b\r\n: no name\r\n", 2),
        (b"A: b\r\n\xc3\xa9: x\r\n", 2),
    ],
)
def test_a_line_that_is_no_field_is_named(header: bytes, line: int) -> None:
    assert reason(header + b"\r\n").startswith(f"550 5.6.0 Line {line} of the header ")


def test_a_header_section_without_an_end_is_refused() -> None:
    assert prepare(b"A: b\r\n" * (MOST_FIELDS + 1), submission()) is HEADER_TOO_LARGE
    assert prepare(b"A: " + b"b" * LONGEST_HEADER, submission()) is HEADER_TOO_LARGE


def test_from_must_name_somebody_whom_the_user_may_be() -> None:
    assert "list of mailboxes" in reason(b"From: nobody\r\n\r\n")
    assert "list of mailboxes" in reason(b"From: \xff <a@b.test>\r\n\r\n")
    assert "list of mailboxes" in reason(b"From: group:;\r\n\r\n")
    assert reason(b"Subject: x\r\n\r\n", reverse_path="") == "550 5.6.0 No From header"
    assert reason(COMPLETE + b"\r\n", may_send=False) == (
        "550 5.7.1 This user may not send as <a@b.test>"
    )


def test_a_user_who_may_be_anybody_may_name_any_sender() -> None:
    content = COMPLETE + b"Sender: ceo\r\nResent-From: x@y.test\r\n\r\n"
    free = Submission("ID", "mta.test", 0.0, "a@b.test", lambda _: True, bound=False)
    assert prepare(content, free) is content


LINES = st.lists(
    st.sampled_from([b"From: a@b.test", b"Bcc: x", b" fold", b"x: y", b"no field", b""])
)


@given(LINES.map(b"\r\n".join) | st.binary())
def test_any_octets_give_a_content_or_one_reply(content: bytes) -> None:
    found = prepare(content, submission())
    if isinstance(found, bytes):
        head = found.partition(b"\r\n\r\n")[0].lower() + b"\r\n"
        assert b"\r\nbcc" not in b"\r\n" + head
        assert all(name in b"\r\n" + head for name in (b"\r\ndate", b"\r\nmessage-id", b"\r\nfrom"))
        assert prepare(found, submission()) is found
        assert found.endswith(content.partition(b"\r\n\r\n")[2])
