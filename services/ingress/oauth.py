"""Who a bearer token says somebody is (RFC 7628), by the keys of the configured issuer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.ingress.jwk import LARGEST_SET, VerificationKey, parse_key_set
from services.ingress.jwt import Expected, InvalidToken, verified_claims
from shared.settings.accepting import OauthSettings
from shared.settings.load import ConfigError

SETTING = "ingress.oauth.jwks_file"
FAILURE = b'{"status":"invalid_token"}'
"""What a client is told of a token that is not good (RFC 7628, 3.2.2)."""
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Identity:
    """`tenant` is empty where the token says nothing of it; `until` is in epoch seconds."""

    username: str
    tenant: str
    until: float


def load_keys(path: Path) -> tuple[VerificationKey, ...]:
    """The keys in the file. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            return parse_key_set(file.read(LARGEST_SET + 1))
    except OSError as error:
        raise ConfigError(f"{SETTING}: {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{SETTING}: {path}: {error}") from None


class TokenVerifier:
    """Checks tokens for all sessions of the process."""

    def __init__(self, settings: OauthSettings, keys: Sequence[VerificationKey]) -> None:
        self._settings = settings
        self._keys = keys
        self._expected = Expected(
            settings.issuer,
            frozenset(settings.audience),
            frozenset(settings.algorithms),
            settings.clock_skew / 1000,
        )

    def renew(self, keys: Sequence[VerificationKey]) -> None:
        """Trust these keys, and no others, from now on."""
        self._keys = keys

    def verify(self, token: bytes, now: float) -> Identity:
        """Whom the token means at `now` (epoch seconds). Raises `InvalidToken`."""
        claims = verified_claims(token, self._keys, self._expected, now)
        username = claims.get(self._settings.username_claim)
        tenant = claims.get(self._settings.tenant_claim) if self._settings.tenant_claim else ""
        if not (isinstance(username, str) and 0 < len(username) <= _LONGEST_NAME):
            raise InvalidToken("it names no user")
        if self._settings.tenant_claim and not _is_tenant(tenant):
            raise InvalidToken("it names no tenant")
        return Identity(username, str(tenant), float(claims["exp"]) + self._expected.skew)


def _is_tenant(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()
