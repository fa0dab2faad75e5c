"""The public keys that sign tokens: a JSON Web Key Set (RFC 7517; pure).

What an algorithm needs of a key is checked when the set is read, so that a token cannot choose:
each key verifies the algorithms of its own kind and no other. Private and shared keys are refused,
since a set is meant to be public.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

LARGEST_SET = 256 * 1024
MOST_KEYS = 100
_RSA_BITS = (2048, 8192)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))

Verify = Callable[[bytes, bytes], bool]
"""Whether a signature (first) is that of the octets."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """`kid` is empty where the key has none. What it verifies, by algorithm."""

    kid: str
    verify: Mapping[str, Verify]


def parse_json(octets: bytes) -> Any:
    """A JSON text; ValueError also for a name given twice, and numbers that JSON has not."""
    try:
        return json.loads(
            octets.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode(text: str) -> bytes:
    """Octets from base64url without padding, in its one canonical form. Raises ValueError."""
    if not _BASE64URL.fullmatch(text):
        raise ValueError("not base64url")
    try:
        octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("not base64url") from None
    if base64.urlsafe_b64encode(octets).decode().rstrip("=") != text:
        raise ValueError("not canonical base64url")
    return octets


def parse_key_set(octets: bytes) -> tuple[VerificationKey, ...]:
    """The keys that verify signatures, of kinds that we know. ValueError if there is none."""
    if len(octets) > LARGEST_SET:
        raise ValueError(f"larger than {LARGEST_SET} octets")
    found = parse_json(octets)
    members = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(members, list) or len(members) > MOST_KEYS:
        raise ValueError(f"not a JSON Web Key Set of at most {MOST_KEYS} keys")
    keys: list[VerificationKey] = []
    for number, member in enumerate(members, 1):
        try:
            keys += _key(member)
        except ValueError as error:
            raise ValueError(f"key {number}: {error}") from None
    kids = [key.kid for key in keys if key.kid]
    if len(set(kids)) < len(kids):
        raise ValueError("two keys with one kid")
    if not keys:
        raise ValueError("no key that verifies signatures")
    return tuple(keys)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is given twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def _key(member: Any) -> tuple[VerificationKey, ...]:
    if not isinstance(member, dict):
        raise ValueError("must be an object")
    if member.keys() & _PRIVATE:
        raise ValueError("holds a private or shared key, and the set is meant to be public")
    uses = member.get("key_ops", ["verify"])
    if member.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses:
        return ()
    make = _KINDS.get(str(member.get("kty")))
    verify = make(member) if make else {}
    if "alg" in member:
        verify = {name: each for name, each in verify.items() if name == member["alg"]}
    kid = member.get("kid", "")
    if not isinstance(kid, str):
        raise ValueError("kid must be text")
    return (VerificationKey(kid, verify),) if verify else ()


def _text(member: Mapping[str, Any], name: str) -> bytes:
    value = member.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is missing")
    return decode(value)


def _rsa(member: Mapping[str, Any]) -> dict[str, Verify]:
    modulus, exponent = (int.from_bytes(_text(member, name), "big") for name in ("n", "e"))
    if not _RSA_BITS[0] <= modulus.bit_length() <= _RSA_BITS[1]:
        raise ValueError(f"an RSA key has {_RSA_BITS[0]} to {_RSA_BITS[1]} bits")
    if exponent >= 2**32:
        raise ValueError("the exponent is too large")
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    found: dict[str, Verify] = {}
    for bits, digest in ((256, SHA256()), (384, SHA384()), (512, SHA512())):
        salted = padding.PSS(padding.MGF1(digest), digest.digest_size)
        found[f"RS{bits}"] = partial(_verify_rsa, key, padding.PKCS1v15(), digest)
        found[f"PS{bits}"] = partial(_verify_rsa, key, salted, digest)
    return found


def _verify_rsa(
    key: rsa.RSAPublicKey,
    scheme: padding.PKCS1v15 | padding.PSS,
    digest: HashAlgorithm,
    signature: bytes,
    signed: bytes,
) -> bool:
    return _valid(lambda: key.verify(signature, signed, scheme, digest))


_CURVES: dict[str, tuple[ec.EllipticCurve, str, HashAlgorithm]] = {
    "P-256": (ec.SECP256R1(), "ES256", SHA256()),
    "P-384": (ec.SECP384R1(), "ES384", SHA384()),
    "P-521": (ec.SECP521R1(), "ES512", SHA512()),
}


def _ec(member: Mapping[str, Any]) -> dict[str, Verify]:
    if str(member.get("crv")) not in _CURVES:
        return {}
    curve, name, digest = _CURVES[member["crv"]]
    size = (curve.key_size + 7) // 8
    x, y = _text(member, "x"), _text(member, "y")
    if len(x) != size or len(y) != size:
        raise ValueError("a coordinate has another size than its curve")
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve
    )
    return {name: partial(_verify_ec, numbers.public_key(), size, digest)}


def _verify_ec(
    key: ec.EllipticCurvePublicKey,
    size: int,
    digest: HashAlgorithm,
    signature: bytes,
    signed: bytes,
) -> bool:
    """The signature is two numbers of one size (RFC 7518, 3.4), not DER."""
    if len(signature) != 2 * size:
        return False
    r, s = (int.from_bytes(part, "big") for part in (signature[:size], signature[size:]))
    encoded = utils.encode_dss_signature(r, s)
    return _valid(lambda: key.verify(encoded, signed, ec.ECDSA(digest)))


def _okp(member: Mapping[str, Any]) -> dict[str, Verify]:
    if member.get("crv") != "Ed25519":
        return {}
    key = ed25519.Ed25519PublicKey.from_public_bytes(_text(member, "x"))
    return {"EdDSA": lambda signature, signed: _valid(lambda: key.verify(signature, signed))}


def _valid(verify: Callable[[], None]) -> bool:
    try:
        verify()
    except InvalidSignature:
        return False
    return True


_KINDS: dict[str, Callable[[Mapping[str, Any]], dict[str, Verify]]] = {
    "RSA": _rsa,
    "EC": _ec,
    "OKP": _okp,
}
