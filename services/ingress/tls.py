"""The server's side of TLS: its context, from the configured files, and its handshake."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

from shared.settings.accepting import TlsSettings
from shared.settings.load import ConfigError

HANDSHAKE_TIMEOUT = 10.0
SHUTDOWN_TIMEOUT = 3.0
"""Seconds a client may take to say goodbye inside TLS; many never do."""
_KINDS = frozenset(("DNS", "email", "URI"))


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or newer. Raises `ConfigError` that names the setting which cannot be used."""
    _check_readable("ingress.tls.certificate", settings.certificate)
    _check_readable("ingress.tls.key", settings.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, settings)
    if settings.client_authority is not None:
        _check_readable("ingress.tls.client_authority", settings.client_authority)
        try:
            context.load_verify_locations(settings.client_authority)
        except ssl.SSLError:
            where = f"ingress.tls.client_authority: {settings.client_authority}"
            raise ConfigError(f"{where}: not a certificate in PEM form") from None
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def secure(
    plain: asyncio.Transport, protocol: asyncio.Protocol, context: ssl.SSLContext
) -> asyncio.Transport:
    """The handshake with a client, within `HANDSHAKE_TIMEOUT` seconds. Raises OSError."""
    secured = await asyncio.get_running_loop().start_tls(
        plain,
        protocol,
        context,
        server_side=True,
        ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
    )
    assert secured is not None
    return secured


def certificate_names(found: ssl.SSLObject | ssl.SSLSocket | None) -> tuple[str, ...]:
    """The names in the certificate that a client has shown, which was verified.

    Those of subjectAltName (DNS, e-mail, URI); the common name only where there is none
    (RFC 6125, 6.4.4).
    """
    certificate: Any = found.getpeercert() if found is not None else None
    if not certificate:
        return ()
    names = [text for kind, text in certificate.get("subjectAltName", ()) if kind in _KINDS]
    if not names:
        parts = [part for relative in certificate.get("subject", ()) for part in relative]
        names = [text for key, text in parts if key == "commonName"]
    return tuple(name.lower() for name in names)


def description(found: ssl.SSLObject | ssl.SSLSocket | None) -> str:
    """Version and cipher, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`; empty in the clear."""
    cipher = found.cipher() if found is not None else None
    # Not the version in `cipher`: that is the one in which the cipher was defined.
    return f"{found.version()} {cipher[0]}" if found is not None and cipher else ""


def renew_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    """Show the certificate that is in the files now. Raises `ConfigError`, and nothing changes.

    Handshakes that have begun end with the old one.
    """
    server_context(settings)  # a pair that does not match would leave half of it in `context`
    _load(context, settings)


def _load(context: ssl.SSLContext, settings: TlsSettings) -> None:
    try:
        # Without a password OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(settings.certificate, settings.key, password="")
    except (ssl.SSLError, ValueError) as error:
        setting, why = _blame(settings, error)
        raise ConfigError(f"{setting}: {why}") from None


def _check_readable(setting: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: {path}: {error.strerror}") from None


def _blame(settings: TlsSettings, error: Exception) -> tuple[str, str]:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "ingress.tls.key", f"{settings.key}: not the key of {settings.certificate}"
    try:
        ssl.create_default_context(cafile=str(settings.certificate))
    except ssl.SSLError:
        return "ingress.tls.certificate", f"{settings.certificate}: not a certificate in PEM form"
    return "ingress.tls.key", f"{settings.key}: not an unencrypted private key in PEM form"
