"""The credentials file: who may authenticate, how, and what each may send."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator

from services.ingress.passwords import cost_of
from services.ingress.senders import parse_senders
from shared.messages.model import MessageClass
from shared.settings.files import FileError, read_yaml
from shared.settings.load import ConfigError
from shared.settings.section import Section

SETTING = "ingress.credentials_file"


class Credential(Section):
    """One entry of the credentials file."""

    username: str = Field(min_length=1, max_length=255)
    password_hash: str = Field(
        default="", validation_alias=AliasChoices("password_hash", "hash"), repr=False
    )
    certificates: tuple[str, ...] = ()
    oauth: bool = False
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
    def _is_argon2id(cls, text: str) -> str:
        if text:
            cost_of(text)
        return text

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if not (self.password_hash or self.certificates or self.oauth):
            raise ValueError("give password_hash, certificates or oauth: true")
        return self


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
