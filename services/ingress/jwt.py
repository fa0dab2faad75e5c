"""Checks a signed token (RFC 7519, 7515, 8725; pure): octets give claims, or one `InvalidToken`.

The algorithm is one of those that are allowed, and one of the key; a token says which key, and
nothing that a token says of keys is followed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.ingress.jwk import VerificationKey, Verify, decode, parse_json

LARGEST_TOKEN = 8192
_TYPES = frozenset(("jwt", "at+jwt", "application/jwt", "application/at+jwt"))


@dataclass(frozen=True, slots=True)
class Expected:
    """Who signs, for whom, and how. `skew` is in seconds: so much clocks may differ."""

    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    skew: float


class InvalidToken(Exception):  # noqa: N818 - the reason of a refusal
    """Why a token does not hold. The text is ours: nothing in it comes from the token."""


def verified_claims(
    token: bytes, keys: Sequence[VerificationKey], expected: Expected, now: float
) -> Mapping[str, Any]:
    """The claims of a token that holds at `now` (epoch seconds). Raises `InvalidToken`."""
    try:
        claims = _signed(token, keys, expected.algorithms)
        _check(claims, expected, now)
    except ValueError:
        raise InvalidToken("malformed") from None
    return claims


def _signed(
    token: bytes, keys: Sequence[VerificationKey], algorithms: Collection[str]
) -> dict[str, Any]:
    """The claims, whatever they are. Raises `InvalidToken`; ValueError for what is no token."""
    if len(token) > LARGEST_TOKEN:
        raise InvalidToken("too large")
    parts = token.decode("ascii").split(".")
    if len(parts) != 3:
        raise InvalidToken("not a signed token")
    header, claims, signature = parse_json(decode(parts[0])), decode(parts[1]), decode(parts[2])
    if not isinstance(header, dict) or "crit" in header:
        raise InvalidToken("its header asks for more than is known here")
    if not _verifier(header, keys, algorithms)(signature, token.rpartition(b".")[0]):
        raise InvalidToken("the signature is wrong")
    found = parse_json(claims)
    if not isinstance(found, dict):
        raise InvalidToken("malformed")
    return found


def _verifier(
    header: Mapping[str, Any], keys: Sequence[VerificationKey], algorithms: Collection[str]
) -> Verify:
    """The check by the one key that is meant: without a `kid` there must be one only."""
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise InvalidToken("its algorithm is not allowed")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise InvalidToken("it is of another type")
    fitting = [key for key in keys if algorithm in key.verify and (kid is None or key.kid == kid)]
    if len(fitting) != 1:
        raise InvalidToken("its key is not in the set")
    return fitting[0].verify[algorithm]


def _check(claims: Mapping[str, Any], expected: Expected, now: float) -> None:
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if claims.get("iss") != expected.issuer:
        raise InvalidToken("it is of another issuer")
    if not any(isinstance(each, str) and each in expected.audiences for each in audiences):
        raise InvalidToken("it is for another audience")
    if now >= _seconds(claims.get("exp")) + expected.skew:
        raise InvalidToken("it has expired")
    if (
        max(_seconds(claims.get("nbf", now)), _seconds(claims.get("iat", now)))
        > now + expected.skew
    ):
        raise InvalidToken("it holds later only")


def _seconds(value: object) -> float:
    """A NumericDate. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a number")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise ValueError("not a time")
    return seconds
