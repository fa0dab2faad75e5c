"""Read the configuration once: file, then environment. What is wrong is one line that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from shared.settings.model import Settings

ENV_PREFIX = "POSTROAD_"


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line that names the key and why."""


class _Loader(Settings, BaseSettings):
    """`Settings` read from a mapping, each key overridden by its environment variable."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
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
        return env_settings, init_settings


def load_settings(path: Path | None) -> Settings:
    """Settings from the YAML file at `path` (None: defaults) and `POSTROAD_...` variables.

    Raises `ConfigError`.
    """
    values = _read(path) if path else {}
    try:
        return _Loader(**values)
    except ValidationError as error:
        raise ConfigError(_first_line(error)) from None
    except SettingsError as error:
        raise ConfigError(str(error).splitlines()[0]) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path}: must be a mapping of settings")
    return values


def _first_line(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if "constrained" not in str(part))
    message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
    return f"{key or 'configuration'}: {' '.join(message.removeprefix('Value error, ').split())}"
