"""Takes up new credentials, certificates and keys while the process runs.

A file that cannot be used changes nothing, is logged and counted: whoever could log in still can,
and the certificate that is shown stays.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509

from services.ingress.credentials import Credential, load_credentials
from services.ingress.jwk import VerificationKey
from services.ingress.oauth import load_keys
from services.ingress.tls import renew_certificate
from shared import metrics
from shared.file_watch import PAUSE, FileWatch
from shared.logs import get_logger
from shared.settings.accepting import TlsSettings
from shared.settings.load import ConfigError


def watch_credentials(
    path: Path,
    current: Sequence[Credential],
    take_up: Callable[[Sequence[Credential]], None],
    *,
    pause: float = PAUSE,
) -> FileWatch:
    """Calls `take_up` with the users each time they have changed."""
    known = list(current)

    async def read() -> None:
        try:
            found = list(await asyncio.to_thread(load_credentials, path))
        except ConfigError as error:
            metrics.credentials_reloads.labels("failed").inc()
            get_logger().error("credentials not taken up", error=str(error))
            return
        if found != known:
            names = {each.username for each in known}, {each.username for each in found}
            known[:] = found
            take_up(found)
            metrics.credentials_reloads.labels("ok").inc()
            get_logger().info(
                "credentials changed",
                users=len(found),
                added=len(names[1] - names[0]),
                removed=len(names[0] - names[1]),
            )

    return FileWatch([path], read, pause=pause)


def watch_keys(
    path: Path, take_up: Callable[[Sequence[VerificationKey]], None], *, pause: float = PAUSE
) -> FileWatch:
    """Calls `take_up` with the keys that sign tokens each time their file has changed."""
    known = [_content(path)]

    async def read() -> None:
        found = await asyncio.to_thread(_content, path)
        if found == known[0]:
            return
        try:
            keys = await asyncio.to_thread(load_keys, path)
        except ConfigError as error:
            metrics.jwks_reloads.labels("failed").inc()
            get_logger().error("keys not taken up", error=str(error))
            return
        known[0] = found
        take_up(keys)
        metrics.jwks_reloads.labels("ok").inc()
        get_logger().info("keys changed", keys=[key.kid for key in keys])

    return FileWatch([path], read, pause=pause)


def watch_certificate(
    settings: TlsSettings, context: ssl.SSLContext, *, pause: float = PAUSE
) -> FileWatch:
    """Lets `context` show the certificate of the files each time it has changed."""
    shown = [_octets(settings)]
    _tell_expiry(settings)

    async def read() -> None:
        found = await asyncio.to_thread(_octets, settings)
        if found == shown[0]:
            return
        try:
            await asyncio.to_thread(renew_certificate, context, settings)
        except ConfigError as error:
            metrics.certificate_reloads.labels("failed").inc()
            get_logger().error("certificate not taken up", error=str(error))
            return
        shown[0] = found
        metrics.certificate_reloads.labels("ok").inc()
        get_logger().info("certificate changed", expires=_tell_expiry(settings))

    return FileWatch([settings.certificate, settings.key], read, pause=pause)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _octets(settings: TlsSettings) -> tuple[bytes, ...]:
    try:
        return settings.certificate.read_bytes(), settings.key.read_bytes()
    except OSError:
        return ()


def _tell_expiry(settings: TlsSettings) -> str:
    """When the certificate in the file ends; the metric counts down to it."""
    certificate = x509.load_pem_x509_certificate(settings.certificate.read_bytes())
    ends = certificate.not_valid_after_utc
    metrics.certificate_seconds_left.set_function(lambda: ends.timestamp() - time.time())
    return ends.isoformat()
