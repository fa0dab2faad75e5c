"""An issuer of tokens: keys made at run time, their public set, and JWTs signed with them.

The signing is the test's own, so that no fault of the verifier is shared.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

DIGESTS = {"256": SHA256(), "384": SHA384(), "512": SHA512()}
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


def b64url(octets: bytes) -> str:
    """Without padding, as in a JWT."""
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def number(value: int, size: int = 0) -> str:
    """A number as in a JWK."""
    return b64url(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


class Issuer:
    """One key of each kind; `kid` is the name of the algorithm it is meant for."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = {name: ec.generate_private_key(curve) for name, curve in CURVES.items()}
        self.ed = ed25519.Ed25519PrivateKey.generate()

    def key_set(self) -> dict[str, Any]:
        """The public keys."""
        n = self.rsa.public_key().public_numbers()
        keys: list[dict[str, Any]] = [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "n": number(n.n), "e": number(n.e)}
        ]
        for name, key in self.ec.items():
            p = key.public_key().public_numbers()
            size = (key.key_size + 7) // 8
            curve = f"P-{key.key_size}"
            keys.append(
                {"kty": "EC", "kid": name, "crv": curve, "x": number(p.x, size),
                 "y": number(p.y, size)}
            )  # fmt: skip
        raw = self.ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        keys.append({"kty": "OKP", "kid": "EdDSA", "crv": "Ed25519", "x": b64url(raw)})
        return {"keys": keys}

    def write(self, path: Path) -> Path:
        """The set as a file."""
        path.write_text(json.dumps(self.key_set()))
        return path

    def token(self, claims: Mapping[str, Any] | bytes, alg: str = "RS256", **header: Any) -> bytes:
        """A signed token; a `header` value of None leaves that one out."""
        kid = "rsa" if alg[1] == "S" and alg[0] in "RP" else alg
        head = {"alg": alg, "typ": "JWT", "kid": kid, **header}
        head = {name: value for name, value in head.items() if value is not None}
        body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        signed = f"{b64url(json.dumps(head).encode())}.{b64url(body)}".encode()
        return signed + b"." + b64url(self.sign(alg, signed)).encode()

    def sign(self, alg: str, signed: bytes) -> bytes:
        """The octets of a signature."""
        if alg == "EdDSA":
            return self.ed.sign(signed)
        digest = DIGESTS[alg[2:]]
        if alg.startswith("RS"):
            return self.rsa.sign(signed, padding.PKCS1v15(), digest)
        if alg.startswith("PS"):
            salted = padding.PSS(padding.MGF1(digest), digest.digest_size)
            return self.rsa.sign(signed, salted, digest)
        key = self.ec[alg]
        size = (key.key_size + 7) // 8
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
