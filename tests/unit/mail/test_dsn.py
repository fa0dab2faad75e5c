"""Notifications, read back with the standard library's parser."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from shared.mail.dsn import ReportedMail, failure_dsn
from shared.messages.model import AcceptedMail, MessageClass, Recipient
from shared.smtp.replies import Reply

HEADERS = b"Received: from a\r\nFrom: <me@sender.test>\r\nSubject: secret plans\r\n"
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


@given(st.text(max_size=300), st.text(max_size=2000), st.binary(max_size=3000))
def test_text_of_strangers_never_breaks_the_form(address: str, reply: str, headers: bytes) -> None:
    mail = dsn([(Recipient(address), Reply(550, "5.1.1", reply))], headers)
    content = bytes(mail.content.inline)
    assert content.count(b"\r\n") == content.count(b"\n") == content.count(b"\r")
    assert max(map(len, content.split(b"\r\n"))) <= 4 * 998
    report = content.split(b"message/delivery-status")[1].split(b"--=_postroad_DSN1")[0]
    assert report.count(b"\r\nStatus: ") == 1
    assert report.count(b"\r\nAction: ") == 1
