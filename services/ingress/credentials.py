"""Who may authenticate: the credentials file, and the check of a password off the event loop.

A check costs tens of milliseconds and tens of megabytes by design, so few run at a time, on
threads of their own. A success is remembered for some minutes under a keyed hash; neither
passwords nor what is derived from them is ever logged or kept in the clear.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import argon2
from argon2.exceptions import Argon2Error, InvalidHash
from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator

from services.ingress.policy import User
from services.ingress.senders import parse_senders
from shared.messages.model import MessageClass
from shared.settings.files import FileError, read_yaml
from shared.settings.load import ConfigError
from shared.settings.section import Section

SETTING = "ingress.credentials_file"
CHECKS_AT_ONCE = 2
REMEMBERED_SECONDS = 300.0
REMEMBERED_USERS = 10_000

_hasher = argon2.PasswordHasher()


class Credential(Section):
    """One entry of the credentials file."""

    username: str = Field(min_length=1, max_length=255)
    password_hash: str = Field(
        default="", validation_alias=AliasChoices("password_hash", "hash"), repr=False
    )
    certificates: tuple[str, ...] = ()
    tenant: str = "default"
    message_class: MessageClass | None = None
    senders: tuple[str, ...] | None = None
    messages_per_hour: int | None = Field(default=None, ge=1)
    recipients_per_hour: int | None = Field(default=None, ge=1)
    connections: int | None = Field(default=None, ge=1)
    max_message_bytes: int | None = Field(default=None, ge=1)

    @field_validator("senders")
    @classmethod
    def _are_senders(cls, entries: tuple[str, ...] | None) -> tuple[str, ...] | None:
        parse_senders(entries or ())
        return entries

    @field_validator("password_hash")
    @classmethod
    def _is_argon2(cls, text: str) -> str:
        try:
            if text:
                argon2.extract_parameters(text)
        except InvalidHash:
            raise ValueError("not an argon2 hash (see postroad hash-password)") from None
        return text

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if not (self.password_hash or self.certificates):
            raise ValueError("give password_hash or certificates")
        return self


def hash_password(password: str) -> str:
    """The argon2 hash that goes into the credentials file."""
    return _hasher.hash(password)


def load_credentials(path: Path) -> tuple[Credential, ...]:
    """All entries of the file. Raises `ConfigError` that names the file and the entry."""
    try:
        entries = read_yaml(path)
    except FileError as error:
        raise ConfigError(f"{SETTING}: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{SETTING}: {path}: must be a list of users")
    credentials: dict[str, Credential] = {}
    certificates: set[str] = set()
    for number, entry in enumerate(entries, 1):
        credential = _credential(f"{SETTING}: {path}: entry {number}", entry)
        if credential.username in credentials:
            raise ConfigError(f"{SETTING}: {path}: entry {number}: the username comes twice")
        for name in credential.certificates:
            if name.lower() in certificates:
                raise ConfigError(f"{SETTING}: {path}: entry {number}: {name} comes twice")
            certificates.add(name.lower())
        credentials[credential.username] = credential
    return tuple(credentials.values())


def _credential(place: str, entry: object) -> Credential:
    try:
        return Credential.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = "".join(f"{part}: " for part in first["loc"])
        raise ConfigError(f"{place}: {key}{first['msg'].removeprefix('Value error, ')}") from None


class Authenticator:
    """Checks user names and passwords. `clock` gives seconds, monotonic."""

    def __init__(
        self, credentials: Iterable[Credential], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.renew(credentials)
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._threads = ThreadPoolExecutor(CHECKS_AT_ONCE, "password")

    def renew(self, credentials: Iterable[Credential]) -> None:
        """Know these users, and no others, from now on. Sessions that are open stay."""
        self._credentials = {credential.username: credential for credential in credentials}
        hashes = [each.password_hash for each in self._credentials.values() if each.password_hash]
        # An unknown user costs a check of this hash, so that the time tells nothing.
        self._decoy = hashes[0] if hashes else hash_password(secrets.token_hex())
        self._by_certificate = {
            name.lower(): each for each in self._credentials.values() for name in each.certificates
        }
        self._remembered: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    async def check(self, username: bytes, password: bytes) -> User | None:
        """The user, or None if name or password is wrong."""
        name = username.decode("utf-8", "replace")
        credential = self._credentials.get(name)
        if credential is not None and self._is_remembered(name, password):
            return _user(credential)
        correct = await asyncio.get_running_loop().run_in_executor(
            self._threads,
            _verify,
            (credential.password_hash if credential else "") or self._decoy,
            password,
        )
        if self._credentials.get(name) is not credential:
            return None  # renewed meanwhile: what was checked may hold no more
        if credential is None or not credential.password_hash or not correct:
            return None
        self._remember(name, password)
        return _user(credential)

    def by_certificate(self, names: Iterable[str], username: bytes) -> User | None:
        """The user whom one of the names in a certificate means, `username` empty for whoever."""
        for name in names:
            credential = self._by_certificate.get(name)
            if credential is not None and username in {b"", credential.username.encode()}:
                return _user(credential)
        return None

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _is_remembered(self, name: str, password: bytes) -> bool:
        digest, until = self._remembered.get(name, (b"", 0.0))
        known = hmac.compare_digest(digest, self._digest(name, password))
        return known and self._clock() < until

    def _remember(self, name: str, password: bytes) -> None:
        self._remembered[name] = (self._digest(name, password), self._clock() + REMEMBERED_SECONDS)
        self._remembered.move_to_end(name)
        if len(self._remembered) > REMEMBERED_USERS:
            self._remembered.popitem(last=False)

    def _digest(self, name: str, password: bytes) -> bytes:
        return hmac.digest(self._key, name.encode() + b"\0" + password, hashlib.sha256)


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


def _verify(password_hash: str, password: bytes) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except Argon2Error:
        return False
