"""Who the users are, by password, certificate or token.

A user who is not there costs as much time as one who is.
"""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from services.ingress.credentials import Credential
from services.ingress.oauth import Identity
from services.ingress.passwords import PasswordChecks, cost_of, decoy_like, hash_password
from services.ingress.policy import User
from services.ingress.senders import parse_senders
from shared.logs import get_logger


@dataclass(frozen=True, slots=True)
class Grant:
    """A user, the entry that made him one, and until when, in epoch seconds."""

    user: User
    credential: Credential
    until: float = math.inf


class Authenticator:
    """Knows the users. `clock` gives seconds, monotonic."""

    def __init__(
        self, credentials: Iterable[Credential], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._credentials: dict[str, Credential] = {}
        self._checks = PasswordChecks(clock)
        self.renew(credentials)

    def renew(self, credentials: Iterable[Credential]) -> None:
        """Know these users, and no others, from now on; whoever has not changed stays himself."""
        known = self._credentials
        self._credentials = {
            each.username: each if known.get(each.username) != each else known[each.username]
            for each in credentials
        }
        self._decoy = _decoy(self._credentials.values())
        self._by_certificate = {
            name.lower(): each for each in self._credentials.values() for name in each.certificates
        }

    def knows(self, credential: Credential) -> bool:
        """Whether the entry is still there as it was."""
        return self._credentials.get(credential.username) is credential

    async def check(self, username: bytes, password: bytes, place: str) -> Grant | None:
        """The user, or None if name or password is wrong. Raises `Busy`.

        `place` is where it comes from; no place may ask for too much at once.
        """
        name = username.decode("utf-8", "replace")
        credential = self._credentials.get(name)
        password_hash = credential.password_hash if credential else ""
        correct = await self._checks.fits(password_hash or self._decoy, password, place)
        if self._credentials.get(name) is not credential:
            return None  # renewed meanwhile: what was checked may hold no more
        if credential is None or not password_hash or not correct:
            return None
        return Grant(_user(credential), credential)

    def by_certificate(self, names: Iterable[str], username: bytes) -> Grant | None:
        """The user whom one of the names in a certificate means, `username` empty for whoever."""
        for name in names:
            credential = self._by_certificate.get(name)
            if credential is not None and username in {b"", credential.username.encode()}:
                return Grant(_user(credential), credential)
        return None

    def by_token(self, identity: Identity, username: bytes) -> Grant | None:
        """The user whom a verified token names, `username` empty for whoever."""
        credential = self._credentials.get(identity.username)
        if credential is None or not credential.oauth:
            return None
        if username not in {b"", credential.username.encode()}:
            return None
        user = _user(credential)
        if identity.tenant:
            user = replace(user, tenant=identity.tenant)
        return Grant(user, credential, identity.until)

    def close(self) -> None:
        """End the threads."""
        self._checks.close()


def _decoy(credentials: Iterable[Credential]) -> str:
    """A hash that costs what most do: of it the password of an unknown user is checked."""
    having = [each for each in credentials if each.password_hash]
    if not having:
        return _hash_of_nothing()
    costs = {each.username: cost_of(each.password_hash) for each in having}
    usual, _ = Counter(costs.values()).most_common(1)[0]
    unusual = [name for name, cost in costs.items() if cost != usual]
    if unusual:
        get_logger().warning(
            "password hashes differ in cost, so the time of a check tells that a user exists",
            usual="m={},t={},p={}".format(*usual),
            users=unusual[:20],
        )
    return decoy_like(next(each.password_hash for each in having if costs[each.username] == usual))


@lru_cache(maxsize=1)
def _hash_of_nothing() -> str:
    return hash_password(secrets.token_hex())


def _user(credential: Credential) -> User:
    return User(
        credential.username,
        credential.tenant,
        credential.message_class,
        None if credential.senders is None else parse_senders(credential.senders),
        credential.messages_per_hour,
        credential.recipients_per_hour,
        credential.connections,
        credential.max_message_bytes,
    )
