"""The options of `postroad probe`, checked: what is wrong is one line that names the option."""

from __future__ import annotations

from pathlib import Path

from services.probe.submit import Submission
from shared.settings import values
from shared.settings.accepting import ListenerTls
from shared.settings.load import ConfigError
from shared.settings.units import parse_duration_ms

SMTP_PORT = 587


def time_of(text: str) -> float:
    """Seconds. Raises `ConfigError`."""
    try:
        return parse_duration_ms(text) / 1000
    except ValueError as error:
        raise ConfigError(f"--timeout: {error}") from None


def submission(
    smtp: str | None,
    *,
    tls: ListenerTls,
    tls_name: str,
    sender: str,
    recipient: str,
    login: tuple[Path | None, Path | None],
    verify: bool,
    ca_file: Path | None,
) -> Submission | None:
    """What is to be submitted, None: nothing. Raises `ConfigError`."""
    if smtp is None:
        return None
    try:
        host, port = values.split_host_port(smtp, SMTP_PORT)
    except ValueError as error:
        raise ConfigError(f"--smtp: {error}") from None
    for option, address in (("--from", sender), ("--to", recipient)):
        if "@" not in address or any(mark.isspace() or mark in "<>" for mark in address):
            raise ConfigError(f"{option}: {address!r} is not an address")
    name = tls_name or host
    return Submission(host, port, tls, name, sender, recipient, _login(login), verify, ca_file)


def _login(files: tuple[Path | None, Path | None]) -> tuple[str, str] | None:
    username, password = files
    if username is None or password is None:
        if username or password:
            raise ConfigError("--username-file and --password-file go together")
        return None
    return _line("--username-file", username), _line("--password-file", password)


def _line(option: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"{option}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{option}: {path}: not UTF-8 text") from None
