"""What a client presents with AUTH, as values (pure): PLAIN (RFC 4616), EXTERNAL (RFC 4422, A) and
OAUTHBEARER (RFC 7628).

Any octets give a claim or one `ProtocolError`. Nobody acts for another user here, so an
authorization identity may only repeat who the client is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from shared.smtp.errors import ProtocolError
from shared.smtp.server_replies import AUTH_FAILED, AUTH_RESPONSE

_BEARER = re.compile(
    rb"[ny],(?:a=((?:[^\0,=]|=2C|=3D)+))?,\x01((?:[A-Za-z]+=[\t\n\r -~]*\x01)*)\x01"
)
_TOKEN = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PasswordClaim:
    """A name and its password."""

    username: bytes
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateClaim:
    """Whoever the certificate means; `username` is empty, or who that has to be."""

    username: bytes


@dataclass(frozen=True, slots=True)
class TokenClaim:
    """Whoever the token means; `username` as above. `token` is empty where there is none."""

    username: bytes
    token: bytes = field(repr=False)


Claim = PasswordClaim | CertificateClaim | TokenClaim


def parse_plain(response: bytes) -> PasswordClaim:
    """The message of PLAIN: authzid NUL authcid NUL password. Raises `ProtocolError`."""
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise ProtocolError(AUTH_RESPONSE)
    authorization, username, password = parts
    if authorization not in {b"", username}:
        raise ProtocolError(AUTH_FAILED)
    return PasswordClaim(username, password)


def parse_external(response: bytes) -> CertificateClaim:
    """The message of EXTERNAL: whom the client wants to be. Raises `ProtocolError`."""
    if b"\0" in response:
        raise ProtocolError(AUTH_RESPONSE)
    return CertificateClaim(response)


def parse_bearer(response: bytes) -> TokenClaim:
    """The message of OAUTHBEARER: a gs2 header, then key and value pairs. Raises `ProtocolError`.

    There is no channel binding, so `p=` in the header is refused (RFC 5801, 5).
    """
    match = _BEARER.fullmatch(response)
    if match is None:
        raise ProtocolError(AUTH_RESPONSE)
    values: dict[bytes, bytes] = {}
    for pair in match[2].split(b"\x01")[:-1]:
        key, _, value = pair.partition(b"=")
        if key.lower() in values:
            raise ProtocolError(AUTH_RESPONSE)
        values[key.lower()] = value
    token = _TOKEN.fullmatch(values.get(b"auth", b""))
    username = (match[1] or b"").replace(b"=2C", b",").replace(b"=3D", b"=")
    return TokenClaim(username, token[1] if token else b"")
