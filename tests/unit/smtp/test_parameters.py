from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.smtp.errors import ProtocolError
from shared.smtp.parameters import (
    NO_MAIL_PARAMETERS,
    Body,
    MailParameters,
    check_recipient_parameters,
    parse_mail_parameters,
    split_parameters,
)


def test_values_are_kept_as_sent_under_upper_case_keywords() -> None:
    assert split_parameters(" size=10  envid=QQ+2Ax smtputf8") == {
        "SIZE": "10",
        "ENVID": "QQ+2Ax",
        "SMTPUTF8": None,
    }


def test_the_parameters_of_mail() -> None:
    assert parse_mail_parameters("") is NO_MAIL_PARAMETERS
    assert parse_mail_parameters(" SIZE=5 BODY=8bitMIME SMTPUTF8 AUTH=a+40b") == MailParameters(
        5, Body.EIGHT_BIT_MIME, True
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (" FOO", 555),
        (" RET=FULL", 555),
        (" =x", 501),
        (" -X=1", 501),
        (" SIZE=", 501),
        (" SIZE=1x", 501),
        (" SIZE=" + "1" * 21, 501),
        (" BODY", 501),
        (" BODY=BINARYMIME", 501),
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
        parse_mail_parameters(text)
    assert caught.value.reply.code == code
    assert caught.value.reply.enhanced == "5.5.4"


def test_no_parameter_of_rcpt_is_known() -> None:
    check_recipient_parameters("")
    check_recipient_parameters("  ")
    with pytest.raises(ProtocolError):
        check_recipient_parameters(" NOTIFY=NEVER")


@given(st.text())
def test_any_text_gives_parameters_or_one_protocol_error(text: str) -> None:
    with contextlib.suppress(ProtocolError):
        parse_mail_parameters(text)
