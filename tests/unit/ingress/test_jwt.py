"""Tokens: what holds, and everything else that does not."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.jwk import LARGEST_SET, MOST_KEYS, VerificationKey, decode, parse_key_set
from services.ingress.jwt import LARGEST_TOKEN, Expected, InvalidToken, verified_claims
from shared.settings.accepting import TokenAlgorithm
from tests.support.tokens import Issuer, b64url, number

NOW = 1_800_000_000.0
ISSUER = Issuer()
KEYS = parse_key_set(json.dumps(ISSUER.key_set()).encode())
Keys = tuple[VerificationKey, ...]
ALL = frozenset(TokenAlgorithm)
EXPECTED = Expected("https://id.test", frozenset(("postroad", "mail")), ALL, 60.0)
CLAIMS = {"iss": "https://id.test", "aud": "postroad", "exp": NOW + 300, "sub": "al"}


def holds(token: bytes, expected: Expected = EXPECTED) -> bool:
    return not reason(token, expected)


def reason(token: bytes, expected: Expected = EXPECTED, keys: Keys = KEYS) -> str:
    """Why it does not hold; empty where it does."""
    try:
        verified_claims(token, keys, expected, NOW)
    except InvalidToken as error:
        return str(error)
    return ""


@pytest.mark.parametrize("algorithm", list(TokenAlgorithm))
def test_each_algorithm_is_verified_and_only_where_it_is_allowed(algorithm: str) -> None:
    token = ISSUER.token(CLAIMS, algorithm)
    assert verified_claims(token, KEYS, EXPECTED, NOW) == CLAIMS
    assert not holds(token, replace(EXPECTED, algorithms=ALL - {algorithm}))
    head, body, signature = token.split(b".")
    swapped = signature[:-8] + signature[-8:][::-1]
    assert not holds(b".".join((head, body, swapped)))
    changed = b64url(json.dumps({**CLAIMS, "sub": "boss"}).encode()).encode()
    assert not holds(b".".join((head, changed, signature)))
    other = Issuer()
    assert not holds(other.token(CLAIMS, algorithm))


@pytest.mark.parametrize(
    "change",
    [
        {"aud": ["x", "mail"]},
        {"exp": NOW - 59},
        {"nbf": NOW + 60, "iat": NOW + 60},
        {"iat": NOW - 10**6, "nbf": 0},
        {"exp": NOW + 0.5},
    ],
)
def test_claims_that_hold(change: Mapping[str, Any]) -> None:
    assert holds(ISSUER.token({**CLAIMS, **change}))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://id.test/"},
        {"iss": None},
        {"iss": ["https://id.test"]},
        {"aud": "other"},
        {"aud": []},
        {"aud": [1, None]},
        {"aud": {"postroad": 1}},
        {"exp": NOW - 60},
        {"exp": None},
        {"exp": str(NOW + 300)},
        {"exp": True},
        {"exp": 10**400},
        {"nbf": NOW + 61},
        {"nbf": "x"},
        {"iat": NOW + 61},
        {"iat": False},
    ],
)
def test_claims_that_do_not(change: Mapping[str, Any]) -> None:
    assert not holds(ISSUER.token({**CLAIMS, **change}))


@pytest.mark.parametrize("name", ["iss", "aud", "exp"])
def test_claims_that_must_be_there(name: str) -> None:
    assert not holds(ISSUER.token({key: value for key, value in CLAIMS.items() if key != name}))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "HS256"},
        {"alg": "rs256"},
        {"alg": ["RS256"]},
        {"alg": "ES256"},
        {"crit": ["exp"]},
        {"crit": []},
        {"kid": "unknown"},
        {"kid": ""},
        {"kid": 1},
        {"kid": "EdDSA"},
        {"typ": "dpop+jwt"},
        {"typ": 1},
    ],
)
def test_a_header_that_asks_for_something_else(header: Mapping[str, Any]) -> None:
    assert not holds(ISSUER.token(CLAIMS, **header) if "alg" not in header else forged(header))


def forged(header: Mapping[str, Any]) -> bytes:
    """Signed with RS256, and said to be something else."""
    head = {"typ": "JWT", "kid": "rsa", **header}
    signed = f"{b64url(json.dumps(head).encode())}.{b64url(json.dumps(CLAIMS).encode())}".encode()
    return signed + b"." + b64url(ISSUER.sign("RS256", signed)).encode()


def test_a_public_key_is_no_secret_to_sign_with() -> None:
    head = b64url(b'{"alg":"HS256","kid":"rsa"}')
    signed = f"{head}.{b64url(json.dumps(CLAIMS).encode())}".encode()
    for secret in (json.dumps(ISSUER.key_set()["keys"][0]).encode(), b""):
        forged_by = hmac.digest(secret, signed, hashlib.sha256)
        assert not holds(signed + b"." + b64url(forged_by).encode())
    body = b64url(json.dumps(CLAIMS).encode())
    unsigned = b64url(b'{"alg":"none"}')
    assert not holds(f"{unsigned}.{body}.".encode())


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (b"opaque", "not a signed token"),
        (b"a.b.c", "malformed"),
        (ISSUER.token({**CLAIMS, "iss": "x"}), "it is of another issuer"),
        (ISSUER.token({**CLAIMS, "aud": "x"}), "it is for another audience"),
        (ISSUER.token({**CLAIMS, "exp": 0}), "it has expired"),
        (ISSUER.token({**CLAIMS, "nbf": NOW + 99}), "it holds later only"),
        (Issuer().token(CLAIMS), "the signature is wrong"),
        (ISSUER.token(CLAIMS, kid="x"), "its key is not in the set"),
    ],
)
def test_the_reason_is_told(token: bytes, said: str) -> None:
    assert reason(token) == said


def test_a_signature_has_one_form_only() -> None:
    signed, _, signature = ISSUER.token(CLAIMS, "ES256").rpartition(b".")
    octets = decode(signature.decode())
    assert holds(signed + b"." + signature)
    for longer in (octets[:32] + b"\0" + octets[32:], octets + b"\0"):
        assert not holds(signed + b"." + b64url(longer).encode())


def test_without_a_kid_the_key_must_be_the_only_one_that_fits() -> None:
    token = ISSUER.token(CLAIMS, "ES256", kid=None, typ=None)
    assert holds(token)
    other = json.dumps(Issuer().key_set()).replace('"kid": "', '"kid": "x')
    twice = (*KEYS, *parse_key_set(other.encode()))
    assert reason(token, keys=twice) == "its key is not in the set"
    assert reason(ISSUER.token(CLAIMS, "ES256"), keys=twice) == ""


@pytest.mark.parametrize(
    "body",
    [b"[]", b"1", b"\xff", b"{", b'{"exp": NaN}', b"[" * 5000,
     json.dumps(CLAIMS).encode()[:-1] + b', "sub": "boss"}'],
)  # fmt: skip
def test_claims_that_are_no_clear_json_object(body: bytes) -> None:
    assert not holds(ISSUER.token(body))


def test_the_encoding_is_strict_and_the_size_bounded() -> None:
    token = ISSUER.token(CLAIMS)
    assert holds(token)
    head, body, signature = token.split(b".")
    for wrong in (
        token + b"=",
        token + b"\n",
        b" " + token,
        b".".join((head, body)),
        token + b".",
        b".".join((head, body, signature.replace(b"_", b"/").replace(b"-", b"+") + b"+")),
        b".".join((head, body, signature[:-1] + bytes([signature[-1] + 1]))),
    ):
        assert not holds(wrong)
    large = ISSUER.token({**CLAIMS, "x": "x" * LARGEST_TOKEN})
    assert not holds(large)


PARTS = st.lists(
    st.sampled_from([*ISSUER.token(CLAIMS).split(b"."), b".", b"e30", b"W10"])
    | st.binary(max_size=20)
).map(b".".join)


@given(PARTS | st.binary())
def test_any_octets_give_claims_or_one_error(token: bytes) -> None:
    assert reason(token) or verified_claims(token, KEYS, EXPECTED, NOW) == CLAIMS


def one(**key: Any) -> bytes:
    return json.dumps({"keys": [{name: v for name, v in key.items() if v is not None}]}).encode()


RSA, EC, _, _, ED = ISSUER.key_set()["keys"]


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"", "Expecting value"),
        (b"\xff", "utf-8"),
        (b"[]", "not a JSON Web Key Set"),
        (b"{}", "not a JSON Web Key Set"),
        (b'{"keys": [], "keys": []}', "given twice"),
        (b'{"keys": []}', "no key"),
        (b'{"keys": [1]}', "key 1: must be an object"),
        (b'{"keys": [%s]}' % b",".join([b"{}"] * (MOST_KEYS + 1)), "at most"),
        (b" " * (LARGEST_SET + 1), "larger than"),
        (one(kty="oct", k="c2VjcmV0"), "private or shared"),
        (one(**ED, d="x"), "private or shared"),
        (one(kty="other"), "no key"),
        (one(**{**RSA, "use": "enc"}), "no key"),
        (one(**RSA, key_ops=["encrypt"]), "no key"),
        (one(**RSA, key_ops=1), "no key"),
        (one(**RSA, alg="ES256"), "no key"),
        (one(**{**RSA, "kid": 1}), "kid must be text"),
        (one(**{**RSA, "n": number(2**1023 + 1)}), "2048 to 8192 bits"),
        (one(**{**RSA, "n": number(2**8192 + 1)}), "2048 to 8192 bits"),
        (one(**{**RSA, "e": number(2**32 + 1)}), "exponent"),
        (one(**{**RSA, "n": None}), "n is missing"),
        (one(**{**RSA, "n": "!"}), "not base64url"),
        (one(**{**EC, "x": number(1)}), "another size"),
        (one(**{**EC, "x": EC["y"]}), "key 1: "),
        (one(**{**EC, "crv": "secp256k1"}), "no key"),
        (one(**{**ED, "x": "AAAA"}), "key 1: "),
        (one(**{**ED, "crv": "X25519"}), "no key"),
        (json.dumps({"keys": [RSA, {**ED, "kid": "rsa"}]}).encode(), "one kid"),
    ],
)
def test_a_key_set_is_read_strictly(octets: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_key_set(octets)


def test_a_key_may_say_which_algorithm_it_is_for() -> None:
    (key,) = parse_key_set(one(**RSA, alg="PS384", key_ops=["verify"]))
    assert key.verify.keys() == {"PS384"}
    found = parse_key_set(json.dumps({"keys": [{"kty": "new"}, RSA]}).encode())
    assert [each.kid for each in found] == ["rsa"]


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from([*RSA, *EC, "keys"]), inner)
        ),
    ).map(lambda value: json.dumps({"keys": [value]}).encode())
)
def test_any_octets_give_keys_or_a_value_error(octets: bytes) -> None:
    try:
        found = parse_key_set(octets)
    except ValueError:
        return
    assert found
