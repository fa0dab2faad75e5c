"""Notifications, read back with the standard library's parser."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mail.dsn import Action, Report, ReportedMail, notification
from shared.messages.model import PLAIN, SECRET, AcceptedMail, DsnWishes, MessageClass, Recipient
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
    reports = [Report(recipient, Action.FAILED, reply) for recipient, reply in failures]
    return told(reports, headers, reverse_path)


def told(
    reports: list[Report],
    content: bytes = HEADERS,
    reverse_path: str = "me@sender.test",
    wishes: DsnWishes | None = None,
    require_tls: bool = False,
) -> AcceptedMail:
    mail = ReportedMail(
        "MAIL1", 1000.0, reverse_path, "shop", MessageClass.BULK,
        smtputf8=False, content=content, dsn=wishes, require_tls=require_tls,
    )  # fmt: skip
    return notification(dsn_id="DSN1", now=2000.0, hostname="mta.test", mail=mail, reports=reports)


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


def test_what_the_sender_gave_comes_back_decoded_with_what_has_happened() -> None:
    wishes = DsnWishes(ret="HDRS", envid="QQ+2B314+3Dx")
    reports = [
        Report(Recipient("a@b.test", "DELAY", "rfc822;A+2Bx@b.test"), Action.DELAYED,
               Reply(450, "4.2.0", "Later"), until=3000.0),
        Report(Recipient("c@d.test", "SUCCESS"), Action.RELAYED, Reply(250, "", "Ok")),
    ]  # fmt: skip
    mail = told(reports, wishes=wishes)
    whole, delayed, relayed = status_groups(mail)
    assert whole["Original-Envelope-Id"] == "QQ+314=x"
    assert delayed["Original-Recipient"] == "rfc822; A+x@b.test"
    assert (delayed["Action"], delayed["Status"]) == ("delayed", "4.2.0")
    assert delayed["Will-Retry-Until"] == "Thu, 01 Jan 1970 00:50:00 -0000"
    assert (relayed["Action"], relayed["Status"]) == ("relayed", "2.0.0")
    assert relayed["Will-Retry-Until"] is None
    assert parsed(mail)["Subject"] == "Delayed Mail (still being retried)"
    assert parsed(told(reports[1:]))["Subject"] == "Successful Mail Delivery Report"


WHOLE = HEADERS + b"\r\nThe body.\r\n"


@pytest.mark.parametrize(
    ("content", "ret", "action", "kind"),
    [
        (WHOLE, "FULL", Action.FAILED, "message/rfc822"),
        (WHOLE, "FULL", Action.RELAYED, "text/rfc822-headers"),
        (WHOLE, "HDRS", Action.FAILED, "text/rfc822-headers"),
        (WHOLE, "", Action.FAILED, "text/rfc822-headers"),
        (WHOLE + b"\xff\r\n", "FULL", Action.FAILED, "text/rfc822-headers"),
        (WHOLE + b"x" * 1000 + b"\r\n", "FULL", Action.FAILED, "text/rfc822-headers"),
        (WHOLE + b"x\r\n" * 20_000, "FULL", Action.FAILED, "text/rfc822-headers"),
    ],
)
def test_the_whole_mail_comes_back_if_it_was_asked_for_and_can(
    content: bytes, ret: str, action: Action, kind: str
) -> None:
    report = Report(Recipient("a@b.test"), action, NO)
    part = list(parsed(told([report], content, wishes=DsnWishes(ret=ret))).iter_parts())[2]
    assert part.get_content_type() == kind
    assert ("The body." in part.as_string()) == (kind == "message/rfc822")


@pytest.mark.parametrize("action", Action)
def test_a_notification_of_mail_that_requires_tls_does_as_well_and_has_headers_only(
    action: Action,
) -> None:
    report = Report(Recipient("a@b.test"), action, NO)
    mail = told([report], WHOLE, wishes=DsnWishes(ret="FULL"), require_tls=True)
    assert (mail.require_tls, mail.schema) == (True, SECRET)
    part = list(parsed(mail).iter_parts())[2]
    assert part.get_content_type() == "text/rfc822-headers"
    assert "The body." not in parsed(mail).as_string()
    other = told([report], WHOLE)
    assert (other.require_tls, other.schema) == (False, PLAIN)
