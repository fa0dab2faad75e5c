"""What clients present: any octets are a claim, or one reply."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.sasl import (
    CertificateClaim,
    Claim,
    PasswordClaim,
    TokenClaim,
    parse_bearer,
    parse_external,
    parse_plain,
)
from shared.smtp.errors import ProtocolError
from shared.smtp.server_replies import AUTH_FAILED, AUTH_RESPONSE, ServerReply


def reply(parse: Callable[[bytes], Claim], response: bytes) -> ServerReply:
    with pytest.raises(ProtocolError) as caught:
        parse(response)
    return caught.value.reply


@pytest.mark.parametrize("response", [b"\0al\0pw", b"al\0al\0pw"])
def test_plain_is_name_and_password(response: bytes) -> None:
    assert parse_plain(response) == PasswordClaim(b"al", b"pw")
    assert "pw" not in repr(parse_plain(response))


@pytest.mark.parametrize("response", [b"boss\0al\0pw", b"AL\0al\0pw", b"\xff\0al\0pw"])
def test_plain_acts_for_nobody_else(response: bytes) -> None:
    assert reply(parse_plain, response) is AUTH_FAILED


@pytest.mark.parametrize(
    "response", [b"", b"\0", b"\0\0", b"al\0pw", b"\0\0pw", b"\0al\0", b"\0al\0pw\0", b"\0al\0p\0w"]
)
def test_plain_that_is_malformed_is_told_so(response: bytes) -> None:
    assert reply(parse_plain, response) is AUTH_RESPONSE


def test_external_is_a_name_or_none() -> None:
    assert parse_external(b"") == CertificateClaim(b"")
    assert parse_external(b"al") == CertificateClaim(b"al")
    assert reply(parse_external, b"al\0") is AUTH_RESPONSE


@pytest.mark.parametrize(
    ("response", "username", "token"),
    [
        (b"n,,\x01auth=Bearer abc\x01\x01", b"", b"abc"),
        (b"n,a=al@b.test,\x01host=h\x01port=25\x01auth=bearer  a.b-c_d~+/==\x01\x01",
         b"al@b.test", b"a.b-c_d~+/=="),
        (b"y,a=a=2Cb=3Dc,\x01auth=BEARER x\x01\x01", b"a,b=c", b"x"),
        (b"n,,\x01auth=\x01\x01", b"", b""),
        (b"n,,\x01\x01", b"", b""),
        (b"n,,\x01auth=Basic abc\x01\x01", b"", b""),
        (b"n,,\x01auth=Bearer a b\x01\x01", b"", b""),
    ],
)  # fmt: skip
def test_a_bearer_token_comes_in_a_gs2_message(
    response: bytes, username: bytes, token: bytes
) -> None:
    assert parse_bearer(response) == TokenClaim(username, token)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"\x01",
        b"n,,auth=Bearer abc\x01\x01",
        b"n,,\x01auth=Bearer abc\x01",
        b"n,,\x01auth=Bearer abc\x01\x01x",
        b"p=tls-unique,,\x01auth=Bearer abc\x01\x01",
        b"F,n,,\x01auth=Bearer abc\x01\x01",
        b"n,al,\x01auth=Bearer abc\x01\x01",
        b"n,a=,\x01auth=Bearer abc\x01\x01",
        b"n,a=a=2c,\x01auth=Bearer abc\x01\x01",
        b"n,a=a\0b,\x01auth=Bearer abc\x01\x01",
        b"n,,\x01auth=Bearer abc\x01auth=Bearer abd\x01\x01",
        b"n,,\x01auth=Bearer abc\x01AUTH=x\x01\x01",
        b"n,,\x01a1=x\x01auth=Bearer abc\x01\x01",
        b"n,,\x01auth=Bearer abc\xff\x01\x01",
    ],
)
def test_a_gs2_message_is_read_strictly(response: bytes) -> None:
    assert reply(parse_bearer, response) is AUTH_RESPONSE


PIECES = st.lists(
    st.sampled_from([b"n,", b"y,", b"a=", b"=2C", b",", b"\x01", b"auth=", b"Bearer ", b"x", b"\0"])
    | st.binary(max_size=3)
).map(b"".join)


@pytest.mark.parametrize("parse", [parse_plain, parse_external, parse_bearer])
@given(response=PIECES)
def test_any_octets_give_a_claim_or_one_reply(
    parse: Callable[[bytes], Claim], response: bytes
) -> None:
    found: Claim | ServerReply
    try:
        found = parse(response)
    except ProtocolError as error:
        found = error.reply
    if isinstance(found, ServerReply):
        assert found in {AUTH_RESPONSE, AUTH_FAILED}
    else:
        assert b"\0" not in found.username
