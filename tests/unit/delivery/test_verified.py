"""The file that says whose certificates are believed."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from services.delivery.verified import VerifiedTls, verifying_context
from shared.settings.load import ConfigError


def test_certificate_and_name_are_verified_with_tls_1_2_or_newer(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "pem"))
    for context in (verifying_context(None), verifying_context(tmp_path / "pem")):
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert len(verifying_context(tmp_path / "pem").get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("text", "why"), [("no certificate", "not a certificate in PEM form"), (None, "No such file")]
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, why: str) -> None:
    file = tmp_path / "authority.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=f"^delivery.tls_authority: {file}: {why}"):
        VerifiedTls(file)
