"""Checks a signed token (RFC 7519, RFC 7515, RFC 8725; pure): any octets give claims or None.

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


def verified_claims(
    token: bytes, keys: Sequence[VerificationKey], expected: Expected, now: float
) -> Mapping[str, Any] | None:
    """The claims of a token that holds at `now` (epoch seconds), None for any other."""
    try:
        claims = _signed(token, keys, expected.algorithms)
        return claims if claims is not None and _holds(claims, expected, now) else None
    except ValueError:
        return None


def _signed(
    token: bytes, keys: Sequence[VerificationKey], algorithms: Collection[str]
) -> dict[str, Any] | None:
    """Raises ValueError for what is no token."""
    if len(token) > LARGEST_TOKEN:
        return None
    parts = token.decode("ascii").split(".")
    if len(parts) != 3:
        return None
    header, claims, signature = parse_json(decode(parts[0])), decode(parts[1]), decode(parts[2])
    if not isinstance(header, dict) or "crit" in header:
        return None
    verify = _verifier(header, keys, algorithms)
    if verify is None or not verify(signature, token.rpartition(b".")[0]):
        return None
    found = parse_json(claims)
    return found if isinstance(found, dict) else None


def _verifier(
    header: Mapping[str, Any], keys: Sequence[VerificationKey], algorithms: Collection[str]
) -> Verify | None:
    """The check by the one key that is meant: without a `kid` there must be one only."""
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        return None
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        return None
    fitting = [key for key in keys if algorithm in key.verify and (kid is None or key.kid == kid)]
    return fitting[0].verify[algorithm] if len(fitting) == 1 else None


def _holds(claims: Mapping[str, Any], expected: Expected, now: float) -> bool:
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if claims.get("iss") != expected.issuer:
        return False
    if not any(isinstance(each, str) and each in expected.audiences for each in audiences):
        return False
    begins = max(_seconds(claims.get("nbf", now)), _seconds(claims.get("iat", now)))
    return begins - expected.skew <= now < _seconds(claims.get("exp")) + expected.skew


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
