from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.smtp.errors import ProtocolError
from shared.smtp.parameters import (
    ALL_PARAMETERS,
    NO_MAIL_PARAMETERS,
    NO_RECIPIENT_PARAMETERS,
    Body,
    By,
    MailParameters,
    RecipientParameters,
    brought_by,
    parse_mail_parameters,
    parse_recipient_parameters,
    split_parameters,
)


def mail(text: str) -> MailParameters:
    return parse_mail_parameters(text, ALL_PARAMETERS)


def recipient(text: str) -> RecipientParameters:
    return parse_recipient_parameters(text, ALL_PARAMETERS)


def test_values_are_kept_as_sent_under_upper_case_keywords() -> None:
    assert split_parameters(" size=10  envid=QQ+2Ax smtputf8") == {
        "SIZE": "10",
        "ENVID": "QQ+2Ax",
        "SMTPUTF8": None,
    }


def test_the_parameters_of_mail() -> None:
    assert mail("") is NO_MAIL_PARAMETERS
    assert mail(" SIZE=5 BODY=8bitMIME SMTPUTF8 AUTH=a+40b") == MailParameters(
        5, Body.EIGHT_BIT_MIME, True
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (" FOO", 555),
        (" RET=ALL", 501),
        (" RET", 501),
        (" ENVID=", 501),
        (" ENVID=a+2", 501),
        (" ENVID=" + "a" * 101, 501),
        (" MT-PRIORITY=10", 501),
        (" MT-PRIORITY=-0", 501),
        (" REQUIRETLS=", 501),
        (" REQUIRETLS=YES", 501),
        (" BY", 501),
        (" BY=60", 501),
        (" BY=60;", 501),
        (" BY=60;X", 501),
        (" BY=60;RN", 501),
        (" BY=60;TR", 501),
        (" BY=0;R", 501),
        (" BY=-1;R", 501),
        (" BY=1234567890;N", 501),
        (" BY=6.5;N", 501),
        (" MT-PRIORITY=01", 501),
        (" MT-PRIORITY=-", 501),
        (" MT-PRIORITY=+1", 501),
        (" =x", 501),
        (" -X=1", 501),
        (" SIZE=", 501),
        (" SIZE=1x", 501),
        (" SIZE=" + "1" * 21, 501),
        (" BODY", 501),
        (" BODY=BINARY", 501),
        (" SMTPUTF8=1", 501),
        (" AUTH", 501),
        (" AUTH=a+4g", 501),
        (" SIZE=1 size=1", 501),
        (" SIZE=1\t", 501),
        (" SIZE=1\x00", 501),
    ],
)
def test_parameters_that_are_refused(text: str, code: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        mail(text)
    assert caught.value.reply.code == code
    assert caught.value.reply.enhanced == "5.5.4"


def test_the_parameters_of_rcpt() -> None:
    assert recipient("") is NO_RECIPIENT_PARAMETERS
    assert recipient("  ") == NO_RECIPIENT_PARAMETERS
    assert recipient(" notify=delay,Success ORCPT=rfc822;a+2Bb@C.test") == (
        RecipientParameters("SUCCESS,DELAY", "rfc822;a+2Bb@C.test")
    )
    assert recipient(" NOTIFY=never").notify == "NEVER"
    assert recipient(" ORCPT=utf-8;\u00fc@b.test").orcpt == "utf-8;\u00fc@b.test"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (" FOO", 555),
        (" NOTIFY", 501),
        (" NOTIFY=", 501),
        (" NOTIFY=NEVER,FAILURE", 501),
        (" NOTIFY=FAILURE,FAILURE", 501),
        (" NOTIFY=OFTEN", 501),
        (" ORCPT=a@b.test", 501),
        (" ORCPT=rfc822;", 501),
        (" ORCPT=rfc822;a+b", 501),
        (" ORCPT=rfc822;\u00fc@b.test", 501),
        (" ORCPT=rfc822;" + "a" * 500, 501),
        (" ORCPT=utf-8;a\u200bb@b.test", 501),
        (" ORCPT=rfc822;a ORCPT=rfc822;b", 501),
    ],
)
def test_parameters_of_rcpt_that_are_refused(text: str, code: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        recipient(text)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (code, "5.5.4")


@given(st.text())
def test_any_text_gives_parameters_or_one_protocol_error(text: str) -> None:
    with contextlib.suppress(ProtocolError):
        mail(text)
    with contextlib.suppress(ProtocolError):
        recipient(text)


def test_tls_is_required_by_a_word_alone() -> None:
    assert mail(" requiretls").require_tls
    assert not mail(" SIZE=5").require_tls
    with pytest.raises(ProtocolError) as caught:
        parse_mail_parameters(" REQUIRETLS", ALL_PARAMETERS - {"REQUIRETLS"})
    assert caught.value.reply.code == 555


@pytest.mark.parametrize(
    ("value", "by"),
    [
        ("60;R", By(60, returns=True)),
        ("+60;rt", By(60, returns=True, traced=True)),
        ("60;N", By(60)),
        ("0;NT", By(0, traced=True)),
        ("-999999999;N", By(-999_999_999)),
    ],
)
def test_a_time_to_deliver_by(value: str, by: By) -> None:
    assert mail(f" BY={value}").by == by


@pytest.mark.parametrize("value", range(-9, 10))
def test_a_priority_is_a_digit_with_or_without_a_minus(value: int) -> None:
    assert mail(f" MT-PRIORITY={value}").priority == value


@pytest.mark.parametrize("parameter", ["SIZE=1", "BODY=7BIT", "SMTPUTF8", "AUTH=<>", "RET=FULL"])
def test_a_parameter_of_mail_needs_the_extension_that_brings_it(parameter: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_mail_parameters(f" {parameter}", ALL_PARAMETERS - {parameter.partition("=")[0]})
    assert caught.value.reply.code == 555


def test_a_parameter_of_rcpt_needs_dsn() -> None:
    assert parse_recipient_parameters(" NOTIFY=NEVER", brought_by(["DSN"])).notify == "NEVER"
    with pytest.raises(ProtocolError) as caught:
        parse_recipient_parameters(" NOTIFY=NEVER", brought_by(["SIZE 10", "8BITMIME"]))
    assert caught.value.reply.code == 555


def test_a_parameter_stands_for_one_command_only() -> None:
    for read, parameter in ((mail, "NOTIFY=NEVER"), (recipient, "SIZE=1")):
        with pytest.raises(ProtocolError) as caught:
            read(f" {parameter}")
        assert caught.value.reply.code == 555
