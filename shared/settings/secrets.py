"""Takes the broker's URL, user and password from files, as a secret store mounts them.

No error repeats what is in a file.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import quote, urlsplit

from shared.settings import values
from shared.settings.files import FileError
from shared.settings.model import BrokerSettings, Settings


def with_secrets(settings: Settings) -> Settings:
    """The settings with `broker.url` complete. Raises `FileError`, which names key and file."""
    broker = settings.broker
    if broker.ca_file:
        _check_authority(broker.ca_file)
    url = _from_file(broker) if broker.url_file else broker.url
    if broker.username_file and broker.password_file:
        url = _with_user(url, broker.username_file, broker.password_file)
    if url == broker.url:
        return settings
    complete = broker.model_copy(update={"url": url})
    return settings.model_copy(update={"broker": complete})


def _from_file(broker: BrokerSettings) -> str:
    assert broker.url_file is not None
    try:
        return values.broker_url(_line("url_file", broker.url_file))
    except ValueError as error:
        raise FileError(f"broker.url_file: {broker.url_file}: {error}") from None


def _with_user(url: str, username: Path, password: Path) -> str:
    parts = urlsplit(url)
    user = quote(_line("username_file", username), safe="")
    word = quote(_line("password_file", password), safe="")
    return parts._replace(netloc=f"{user}:{word}@{parts.netloc.rpartition('@')[2]}").geturl()


def _check_authority(path: Path) -> None:
    try:
        ssl.create_default_context(cafile=str(path))
    except ssl.SSLError:
        raise FileError(f"broker.ca_file: {path}: not a certificate in PEM form") from None
    except OSError as error:
        raise FileError(f"broker.ca_file: {path}: {error.strerror}") from None


def _line(key: str, path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise FileError(f"broker.{key}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileError(f"broker.{key}: {path}: not UTF-8 text") from None
    if not text or len(text.splitlines()) > 1:
        raise FileError(f"broker.{key}: {path}: must be one line")
    return text
