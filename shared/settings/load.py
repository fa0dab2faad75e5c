"""Read the configuration once: file, secrets, environment. What is wrong is one line naming it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from shared.settings.files import FileError, read_yaml
from shared.settings.model import Settings
from shared.settings.secrets import with_secrets

ENV_PREFIX = "POSTROAD_"
ENV_DELIMITER = "__"
SECRETS_VARIABLE = "POSTROAD_SECRETS_DIR"
"""Names a folder of files that are called as variables are, and stand for them."""

_PLAIN_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "is required",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "tuple_type": "must be a list",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "path_type": "must be a path",
}


_NAMED = re.compile(rf"((?:{'|'.join(Settings.model_fields)})(?:\.\w+)+): (.*)", re.DOTALL)
"""What a check of several keys says: it names the one that is wrong itself."""


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line that names the key and why."""


def _from_yaml(value: Any) -> Any:
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        return value


class _Environment(EnvSettingsSource):
    """Environment variables, in which a list or mapping is YAML (so JSON too)."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        return _from_yaml(value)


class _Secrets(NestedSecretsSettingsSource):
    """Likewise, from files."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        return _from_yaml(value)


class _Loader(Settings, BaseSettings):
    """`Settings` read from a mapping, each key overridden by its environment variable."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        extra="forbid",
        frozen=True,
        validate_default=False,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        secrets = _Secrets(
            file_secret_settings,
            secrets_dir=os.environ.get(SECRETS_VARIABLE),
            secrets_dir_missing="error",
        )
        return _Environment(settings_cls), secrets, init_settings


def load_settings(path: Path | None) -> Settings:
    """Settings from the YAML file at `path` (None: defaults) and `POSTROAD_...` variables.

    A variable may be a file of that name in the folder `POSTROAD_SECRETS_DIR`; the variable itself
    comes first. `broker.url` is complete, whatever files it comes from.

    Raises `ConfigError`.
    """
    values = _read(path) if path else {}
    given = _given()
    _check_variables(given)
    try:
        return with_secrets(_Loader(**values))
    except ValidationError as error:
        raise ConfigError(_first_line(error, given)) from None
    except FileError as error:
        raise ConfigError(str(error)) from None
    except (SettingsError, OSError) as error:
        raise ConfigError(f"{SECRETS_VARIABLE}: {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{SECRETS_VARIABLE}: a file is not UTF-8 text") from None


def _given() -> set[str]:
    """The names of all variables, in the environment or as files. Raises `ConfigError`."""
    names = list(os.environ)
    if folder := os.environ.get(SECRETS_VARIABLE):
        try:
            names += [path.name for path in Path(folder).iterdir()]
        except OSError as error:
            raise ConfigError(f"{SECRETS_VARIABLE}: {folder}: {error.strerror}") from None
    return {name.upper() for name in names}


def _read(path: Path) -> dict[str, Any]:
    try:
        values = read_yaml(path)
    except FileError as error:
        raise ConfigError(str(error)) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of settings")
    for key in values:
        if key not in Settings.model_fields:
            raise ConfigError(f"{key}: unknown key")
    return values


def _check_variables(names: Iterable[str]) -> None:
    """Refuse a variable below a section that does not exist.

    Names without the delimiter are left alone: Kubernetes sets some for a Service `postroad`.
    """
    for name in names:
        section, delimiter, _ = name.removeprefix(ENV_PREFIX).partition(ENV_DELIMITER)
        known = section.lower() in Settings.model_fields
        if name.startswith(ENV_PREFIX) and delimiter and not known:
            raise ConfigError(f"{name}: unknown key")


def _first_line(error: ValidationError, given: Collection[str]) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    loc = [str(part) for part in first["loc"]]
    message = _PLAIN_WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
    named = _NAMED.fullmatch(message)
    if named and named[1].split(".")[: len(loc)] == loc:
        loc, message = named[1].split("."), named[2]
    line = f"{'.'.join(loc)}{_variable(loc, given)}: {message}" if loc else message
    return " ".join(line.split())


def _variable(loc: list[str], given: Collection[str]) -> str:
    """The variable that gave the value at `loc`, in brackets, if one did."""
    for length in range(len(loc), 0, -1):
        name = ENV_PREFIX + ENV_DELIMITER.join(loc[:length]).upper()
        if name in given:
            return f" ({name})"
    return ""
