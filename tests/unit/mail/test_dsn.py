"""Notifications, read back with the standard library's parser."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mail.dsn import ReportedMail, failure_dsn
from shared.messages.model import AcceptedMail, MessageClass, Recipient
from shared.smtp.replies import Reply

HEADERS = b"Received: from a\r\nFrom: <me@sender.test>\r\nSubject: secret plans\r\n"
ENVELOPE = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version",
            "Content-Type"]  # fmt: skip
GROUP = ["Final-Recipient", "Action", "Status", "Diagnostic-Code"]
NO = Reply(550, "5.1.1", "No such\nmailbox")


def dsn(
    failures: list[tuple[Recipient, Reply]],
    headers: bytes = HEADERS,
    reverse_path: str = "me@sender.test",
) -> AcceptedMail:
    mail = ReportedMail(
        "MAIL1", 1000.0, reverse_path, "shop", MessageClass.BULK, smtputf8=False, headers=headers
    )
    return failure_dsn(dsn_id="DSN1", now=2000.0, hostname="mta.test", mail=mail, failures=failures)


def parsed(mail: AcceptedMail) -> EmailMessage:
    return message_from_bytes(bytes(mail.content.inline), policy=policy.default)


def test_a_notification_goes_to_the_reverse_path_from_the_null_reverse_path() -> None:
    mail = dsn([(Recipient("a@b.test"), NO)])
    assert (mail.reverse_path, mail.recipients) == ("", (Recipient("me@sender.test"),))
    assert (mail.tenant, mail.message_class) == ("shop", MessageClass.BULK)
    assert mail.content.size == len(mail.content.inline)


def test_a_notification_is_a_report_of_three_parts() -> None:
    message = parsed(dsn([(Recipient("a@b.test"), NO)]))
    assert message.get_content_type() == "multipart/report"
    assert message["Auto-Submitted"] == "auto-replied"
    kinds = [part.get_content_type() for part in message.iter_parts()]
    assert kinds == ["text/plain", "message/delivery-status", "text/rfc822-headers"]


def test_each_recipient_has_its_own_status_and_reply() -> None:
    failures = [(Recipient("a@b.test"), NO), (Recipient("c@d.test"), Reply(554, "", "Go away"))]
    message = parsed(dsn(failures))
    report = list(message.iter_parts())[1]
    groups = cast("list[Message]", report.get_payload())
    assert groups[0]["Reporting-MTA"] == "dns; mta.test"
    fields = [(g["Final-Recipient"], g["Action"], g["Status"]) for g in groups[1:]]
    assert fields == [
        ("rfc822; a@b.test", "failed", "5.1.1"),
        ("rfc822; c@d.test", "failed", "5.0.0"),
    ]
    assert groups[1]["Diagnostic-Code"] == "smtp; 550 5.1.1 No such mailbox"


def test_the_original_headers_come_back_and_nothing_else() -> None:
    part = list(parsed(dsn([(Recipient("a@b.test"), NO)])).iter_parts())[2]
    assert "Subject: secret plans" in str(part.get_payload())


def test_the_same_failure_gives_the_same_notification() -> None:
    failures = [(Recipient("a@b.test"), NO)]
    assert dsn(failures) == dsn(failures)


def status_groups(mail: AcceptedMail) -> list[Message]:
    return cast("list[Message]", list(parsed(mail).iter_parts())[1].get_payload())


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(451, "4.4.7", "Delivery time expired"), "4.4.7"),
        (Reply(450, "", "no enhanced code"), "4.0.0"),
        (Reply(550, "5.1.1\r\nX: y", "not a code"), "5.0.0"),
    ],
)
def test_a_reply_without_an_enhanced_code_gets_that_of_its_class(reply: Reply, status: str) -> None:
    (_, group) = status_groups(dsn([(Recipient("a@b.test"), reply)]))
    assert group["Status"] == status


def test_text_that_is_not_ascii_is_readable_and_ascii_on_the_wire() -> None:
    reply = Reply(550, "5.1.1", "Postfach unbekannt: Grüße")
    mail = dsn([(Recipient("jürgen+a@b.test"), reply)], b"Subject: Gr\xc3\xbc\xdfe\r\n")
    content = bytes(mail.content.inline)
    assert content.isascii()
    assert (mail.eight_bit, mail.smtputf8) == (False, False)
    text, _, headers = parsed(mail).iter_parts()
    assert "jürgen+a@b.test" in text.get_content()
    assert "Grüße" in text.get_content()
    assert cast("bytes", headers.get_payload(decode=True)).rstrip() == b"Subject: Gr\xc3\xbc\xdfe"
    (_, group) = status_groups(mail)
    assert group["Final-Recipient"] == r"utf-8; j\x{FC}rgen\x{2B}a@b.test"
    assert group["Diagnostic-Code"] == r"smtp; 550 5.1.1 Postfach unbekannt: Gr\x{FC}\x{DF}e"


def test_a_notification_to_an_address_that_is_not_ascii_needs_smtputf8() -> None:
    mail = dsn([(Recipient("a@b.test"), NO)], reverse_path="jürgen@sender.test")
    assert (mail.eight_bit, mail.smtputf8) == (True, True)


def test_the_headers_come_back_octet_for_octet_and_bounded() -> None:
    headers = b"X-Long: " + b"y" * 5000 + b"\r\nX-Raw: \x00\x1b\xff = \t \r\n"
    part = list(parsed(dsn([(Recipient("a@b.test"), NO)], headers)).iter_parts())[2]
    assert cast("bytes", part.get_payload(decode=True)) == headers


def test_what_grows_when_it_is_escaped_still_fits_a_line() -> None:
    failures = [(Recipient("\U0001f4a9" * 900 + "@b.test"), Reply(550, "5.1.1", "é" * 2000))]
    content = bytes(dsn(failures).content.inline)
    assert max(map(len, content.split(b"\r\n"))) <= 998
    (_, group) = status_groups(dsn(failures))
    assert group["Final-Recipient"].endswith("{1F4A9}")


HOSTILE = st.text(max_size=2000) | st.text("é\U0001f4a9\r\n\x00\\ =.-", max_size=2000)


@given(
    st.lists(st.tuples(HOSTILE, HOSTILE, HOSTILE), min_size=1, max_size=3),
    st.binary(max_size=3000) | st.binary(max_size=100).map(lambda data: data * 30),
    HOSTILE.map(lambda text: text[:250]),
)
def test_text_of_strangers_never_breaks_the_form(
    hostile: list[tuple[str, str, str]], headers: bytes, reverse_path: str
) -> None:
    failures = [(Recipient(address), Reply(550, code, text)) for address, code, text in hostile]
    mail = dsn(failures, headers, reverse_path)
    content = bytes(mail.content.inline)
    assert content.count(b"\r\n") == content.count(b"\n") == content.count(b"\r")
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert content.isascii() or (mail.smtputf8 and mail.eight_bit)
    message = message_from_bytes(content, policy=policy.compat32)
    assert not message.defects
    assert message.keys() == ENVELOPE
    parts = cast("list[Message]", message.get_payload())
    assert len(parts) == 3
    groups = cast("list[Message]", parts[1].get_payload())
    assert [group.keys() for group in groups[1:]] == [GROUP] * len(failures)
    assert [group["Action"] for group in groups[1:]] == ["failed"] * len(failures)
