from __future__ import annotations

import pytest

from shared.smtp.commands import parse_auth, parse_hello, parse_mail, parse_rcpt
from shared.smtp.errors import ProtocolError
from shared.smtp.parameters import ALL_PARAMETERS
from shared.smtp.paths import NULL


def code(error: pytest.ExceptionInfo[ProtocolError]) -> str:
    return f"{error.value.reply.code} {error.value.reply.enhanced}"


def test_mail_has_a_reverse_path_and_parameters() -> None:
    path, parameters = parse_mail(b"from:<a@b.test> SIZE=3", ALL_PARAMETERS)
    assert (path.address, parameters.size) == ("a@b.test", 3)
    assert parse_mail(b"FROM:<>", ALL_PARAMETERS)[0] is NULL


def test_addresses_beyond_ascii_need_smtputf8() -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_mail("FROM:<é@b.test>".encode(), ALL_PARAMETERS)
    assert code(caught) == "553 5.6.7"
    assert parse_mail("FROM:<é@b.test> SMTPUTF8".encode(), ALL_PARAMETERS)[0].address == "é@b.test"
    with pytest.raises(ProtocolError) as caught:
        parse_rcpt("TO:<é@b.test>".encode(), ALL_PARAMETERS, smtputf8=False)
    assert code(caught) == "553 5.6.7"
    assert (
        parse_rcpt("TO:<é@b.test>".encode(), ALL_PARAMETERS, smtputf8=True)[0].address == "é@b.test"
    )


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        (b"", "501 5.5.4"),
        (b"<a@b.test>", "501 5.5.4"),
        (b"FROM <a@b.test>", "501 5.5.4"),
        (b"FROM: <a@b.test>", "501 5.1.7"),
        (b"FROM:<a@b.test>SIZE=1", "501 5.5.4"),
        (b"FROM:<\xff@b.test> SMTPUTF8", "501 5.1.7"),
    ],
)
def test_what_mail_does_not_take(argument: bytes, wanted: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_mail(argument, ALL_PARAMETERS)
    assert code(caught) == wanted


@pytest.mark.parametrize(
    ("argument", "wanted"),
    [
        (b"<a@b.test>", "501 5.5.4"),
        (b"TO:<\xff@b.test>", "501 5.1.3"),
        (b"TO:<a@b.test>x", "501 5.5.4"),
        (b"TO:<a@b.test> X=1", "555 5.5.4"),
    ],
)
def test_what_rcpt_does_not_take(argument: bytes, wanted: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_rcpt(argument, ALL_PARAMETERS, smtputf8=True)
    assert code(caught) == wanted


def test_hello_names_are_ascii() -> None:
    assert parse_hello(b"client.example") == "client.example"
    with pytest.raises(ProtocolError):
        parse_hello("bücher.example".encode())


def test_auth_has_a_mechanism_in_any_case_and_perhaps_a_response() -> None:
    assert parse_auth(b"plain AGE=") == ("PLAIN", "AGE=")
    assert parse_auth(b"Login") == ("LOGIN",)
    for argument in (b"", b"PLAIN a b", b"PLAIN  a"):
        with pytest.raises(ProtocolError):
            parse_auth(argument)
