"""What goes out as commands, and which addresses and mails never do."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.envelope import (
    NEEDS_BINARYMIME,
    NEEDS_SMTPUTF8,
    TOO_LARGE,
    envelope_commands,
    is_safe_envelope,
    is_safe_path,
    obstacle,
)
from services.delivery.secrecy import NEEDS_REQUIRETLS
from shared.messages.model import Content, DeliveryJob, DsnWishes, Recipient

TEXT = b"Subject: x\r\n\r\nbody\r\n"
ALL = {"size": "0", "8bitmime": "", "smtputf8": "", "pipelining": ""}
UNSAFE = [
    "a@t>\r\nDATA",
    "a@t\n",
    "a\rb@t",
    "a@t\x00",
    "a@t\x7f",
    "a@t> SIZE=1",
    "a b@t",
    "a<b@t",
    "<a@t>",
    '"a"b@t',
    '"a@t',
    '"a\\"@t',
    '"a\r\n"@t',
    '"a"@t> NOTIFY=NEVER',
    "a\u2028b@t",
    "a\x85b@t",
]


def job(*recipients: str, reverse_path: str = "s@a.test", smtputf8: bool = False) -> DeliveryJob:
    return DeliveryJob(
        id="job",
        mail_id="mail",
        accepted_at=0.0,
        reverse_path=reverse_path,
        recipients=tuple(map(Recipient, recipients or ("r@b.test",))),
        content=Content(len(TEXT), memoryview(TEXT)),
        destination="b.test",
        exchangers=(),
        smtputf8=smtputf8,
    )


@pytest.mark.parametrize("address", UNSAFE)
def test_an_address_that_could_be_more_than_an_address_is_unsafe(address: str) -> None:
    assert not is_safe_envelope(job("fine@t", address))
    assert not is_safe_envelope(job(reverse_path=address))


@pytest.mark.parametrize(
    "address",
    ["a@t", "a+b@t.test", "$(id)@t", ";id@t", "é@b.test", "a@[127.0.0.1]", '"a b"@t', '"a\\"<"@t'],
)
def test_unusual_addresses_are_addresses(address: str) -> None:
    assert is_safe_envelope(job(address, reverse_path=address))


def test_the_null_reverse_path_is_safe_and_an_empty_recipient_is_not() -> None:
    assert is_safe_envelope(job(reverse_path=""))
    assert not is_safe_envelope(job(""))


@given(st.text())
def test_a_safe_address_stays_between_its_brackets_on_one_line(address: str) -> None:
    if is_safe_path(address):
        (line,) = envelope_commands(job(address), ALL)[1:2]
        assert line.count(b"\r") == line.count(b"\n") == 1
        unquoted = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line)
        assert (unquoted.count(b"<"), unquoted.count(b">")) == (1, 1)
        assert unquoted.endswith(b">\r\n")


def test_an_announced_size_that_is_smaller_than_the_content_is_an_obstacle() -> None:
    assert obstacle(job(), TEXT, {"size": str(len(TEXT) - 1)}) is TOO_LARGE


@pytest.mark.parametrize("limit", [str(len(TEXT)), "0", "", "many", "²", "9" * 5000])
def test_no_size_or_a_sufficient_one_is_no_obstacle(limit: str) -> None:
    assert obstacle(job(), TEXT, {"size": limit}) is None


@pytest.mark.parametrize("flagged", [True, False])
def test_international_addresses_need_smtputf8_whatever_the_client_said(flagged: bool) -> None:
    assert obstacle(job("é@b.test", smtputf8=flagged), TEXT, {}) is NEEDS_SMTPUTF8
    assert b" SMTPUTF8" in envelope_commands(job("é@b.test", smtputf8=flagged), ALL)[0]


def test_international_headers_need_smtputf8() -> None:
    text = "Subject: é\r\n\r\nbody\r\n".encode()

    assert obstacle(job(smtputf8=True), text, {}) is NEEDS_SMTPUTF8


def test_smtputf8_that_was_asked_for_and_not_used_is_no_obstacle() -> None:
    text = "Subject: x\r\n\r\né\r\n".encode()

    assert obstacle(job(smtputf8=True), text, {}) is None
    assert b"SMTPUTF8" not in envelope_commands(job(smtputf8=True), {})[0]


def wishing() -> DeliveryJob:
    recipients = (Recipient("a@b.test", "SUCCESS", "rfc822;A+2Bx@b.test"), Recipient("c@b.test"))
    wishes = DsnWishes(ret="FULL", envid="QQ1")
    return msgspec.structs.replace(job(), recipients=recipients, dsn=wishes)


def test_wishes_go_on_to_who_can_follow_them() -> None:
    assert envelope_commands(wishing(), {"dsn": ""}) == [
        b"MAIL FROM:<s@a.test> RET=FULL ENVID=QQ1\r\n",
        b"RCPT TO:<a@b.test> NOTIFY=SUCCESS ORCPT=rfc822;A+2Bx@b.test\r\n",
        b"RCPT TO:<c@b.test>\r\n",
    ]
    assert envelope_commands(wishing(), {})[:2] == [
        b"MAIL FROM:<s@a.test>\r\n",
        b"RCPT TO:<a@b.test>\r\n",
    ]


@pytest.mark.parametrize("offered", [{"dsn": ""}, {"dsn": "", "smtputf8": ""}])
def test_an_original_recipient_needs_no_smtputf8(offered: dict[str, str]) -> None:
    recipients = (Recipient("a@b.test", "", "utf-8;bü+cher\\x{10}@b.test"),)
    wishing = msgspec.structs.replace(job(), recipients=recipients, dsn=DsnWishes())

    assert envelope_commands(wishing, offered) == [
        b"MAIL FROM:<s@a.test>\r\n",
        b"RCPT TO:<a@b.test> ORCPT=utf-8;b\\x{FC}\\x{2B}cher\\x{10}@b.test\r\n",
    ]


def test_an_original_recipient_that_gets_too_long_stays_here() -> None:
    recipients = (Recipient("a@b.test", "NEVER", f"utf-8;{'ю' * 80}@b.test"),)
    wishing = msgspec.structs.replace(job(), recipients=recipients, dsn=DsnWishes())

    assert envelope_commands(wishing, {"dsn": ""})[1] == b"RCPT TO:<a@b.test> NOTIFY=NEVER\r\n"


@pytest.mark.parametrize("value", ["x\r\nDATA", "x SIZE=1", "x\x00"])
def test_a_wish_that_is_more_than_a_value_parks_the_job(value: str) -> None:
    assert is_safe_envelope(wishing())
    for field in ("ret", "envid"):
        wishes = msgspec.structs.replace(DsnWishes(), **{field: value})
        assert not is_safe_envelope(msgspec.structs.replace(job(), dsn=wishes))
    for field in ("notify", "orcpt"):
        recipient = msgspec.structs.replace(Recipient("a@b.test"), **{field: value})
        made = msgspec.structs.replace(job(), recipients=(recipient,), dsn=DsnWishes())
        assert not is_safe_envelope(made)


def test_a_binary_content_goes_only_where_it_is_taken_as_it_is() -> None:
    binary = msgspec.structs.replace(job(), binary=True)
    taken = {"binarymime": "", "chunking": "", "8bitmime": ""}
    assert obstacle(binary, b"\n", taken) is None
    assert envelope_commands(binary, taken)[0] == b"MAIL FROM:<s@a.test> BODY=BINARYMIME\r\n"
    for missing in ("binarymime", "chunking"):
        offered = {key: value for key, value in taken.items() if key != missing}
        assert obstacle(binary, b"\n", offered) is NEEDS_BINARYMIME


def test_mail_that_requires_tls_goes_only_where_that_is_promised() -> None:
    secret = msgspec.structs.replace(job(), require_tls=True)
    promised = ALL | {"requiretls": ""}
    assert obstacle(secret, TEXT, ALL) == NEEDS_REQUIRETLS
    assert obstacle(secret, TEXT, promised) is None
    assert b" REQUIRETLS\r\n" in envelope_commands(secret, promised)[0]
    # A notification is not lost for that (RFC 8689, 5), and promises nothing in vain.
    notification = msgspec.structs.replace(secret, reverse_path="")
    assert obstacle(notification, TEXT, ALL) is None
    assert b"REQUIRETLS" not in envelope_commands(notification, ALL)[0]
    assert b" REQUIRETLS\r\n" in envelope_commands(notification, promised)[0]
    assert b"REQUIRETLS" not in envelope_commands(job(), promised)[0]
