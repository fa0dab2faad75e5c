"""TLS for mail that requires it: with a certificate that was verified, or none (RFC 8689, 4.2.1).

It shares nothing with opportunistic TLS: no context, no session, no memory of what is broken.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from aiosmtplib import SMTPException, SMTPResponseException

from services.delivery.candidates import literal
from services.delivery.classify import LATE, Stage, classify
from services.delivery.hop import NextHop
from services.delivery.secrecy import REASON, unencrypted, unsupported
from shared import metrics
from shared.messages.outcome import Deferred, Outcome
from shared.settings.load import ConfigError
from shared.smtp.replies import Reply, parse_reply

_full, _failed = (
    metrics.tls_handshakes.labels("full").inc,
    metrics.tls_handshakes.labels("failed").inc,
)


class Unfit(Exception):  # noqa: N818
    """This host cannot have the mail; `outcome` is what that means for its recipients."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(str(outcome.reply))
        self.outcome = outcome


class VerifiedTls:
    """`authority` is a PEM file of those who are believed; None: those of the system.

    Raises `ConfigError` for a file that cannot be used.
    """

    def __init__(self, authority: Path | None) -> None:
        # Those of the system cost 20 ms, which are spent when they are first needed.
        self._context = None if authority is None else verifying_context(authority)

    async def secure(self, hop: NextHop) -> None:
        """STARTTLS, and EHLO that offers REQUIRETLS. Raises `Unfit`; who is left hears QUIT."""
        where = f"{hop.place.host} [{hop.place.address}]"
        if "starttls" not in hop.extensions:
            await hop.leave()
            raise Unfit(unencrypted(where, "STARTTLS is not offered"))
        context = self._context = self._context or verifying_context(None)
        try:
            await hop.secure(context, _name(hop.place.host))
        except (SMTPException, OSError, ValueError) as error:
            _failed()
            raise Unfit(_meaning(error, where)) from error
        _full()
        if "requiretls" not in hop.extensions:
            await hop.leave()
            raise Unfit(unsupported(where))
        hop.verified = True


def verifying_context(authority: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, with chain and name of the peer verified. Raises `ConfigError`."""
    try:
        context = ssl.create_default_context(cafile=authority)
    except ssl.SSLError:
        where = f"delivery.tls_authority: {authority}"
        raise ConfigError(f"{where}: not a certificate in PEM form") from None
    except OSError as error:
        raise ConfigError(f"delivery.tls_authority: {authority}: {error.strerror}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _name(host: str) -> str:
    """What has to stand in the certificate: a name, or an address without brackets."""
    found = literal(host)
    return host if found is None else found.addresses[0]


def _meaning(error: Exception, where: str) -> Outcome:
    """What is wrong with certificate or protocol stays wrong; a lost link says nothing."""
    if isinstance(error, SMTPResponseException):
        reply = parse_reply(error.code, error.message)
        return unencrypted(where, str(reply)) if reply.permanent else classify(reply, Stage.SESSION)
    if isinstance(error, ssl.SSLCertVerificationError):
        return unencrypted(where, f"the certificate: {error.verify_message}")
    lost = isinstance(error, (SMTPException, ssl.SSLEOFError, ssl.SSLZeroReturnError))
    if isinstance(error, ssl.SSLError | ValueError) and not lost:
        return unencrypted(where, f"TLS failed: {getattr(error, 'reason', None) or error}")
    late = isinstance(error, TimeoutError) or LATE in str(error)
    text = f"{where}: STARTTLS: {str(error) or 'it took too long'}"
    return Deferred(Reply(450, "4.4.1", text), "timeout" if late else REASON)
