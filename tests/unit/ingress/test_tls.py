from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from services.ingress.tls import server_context
from shared.settings.accepting import TlsSettings
from shared.settings.load import ConfigError


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    for name in ("one", "two"):
        certificate = authority.issue_cert("mta.example.net")
        certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.crt")
        certificate.private_key_pem.write_to_path(folder / f"{name}.key")
    key = load_pem_private_key((folder / "one.key").read_bytes(), None)
    (folder / "encrypted.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw"))
    )
    (folder / "junk").write_text("junk")
    return folder


def context(files: Path, certificate: str, key: str) -> ssl.SSLContext:
    return server_context(TlsSettings(certificate=files / certificate, key=files / key))


def test_old_protocols_are_not_spoken(files: Path) -> None:
    assert context(files, "one.crt", "one.key").minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("none", "one.key", "ingress.tls.certificate: .*none: No such file"),
        ("one.crt", "none", "ingress.tls.key: .*none: No such file"),
        ("junk", "one.key", "ingress.tls.certificate: .*junk: not a certificate"),
        ("one.crt", "junk", "ingress.tls.key: .*junk: not an unencrypted private key"),
        ("one.crt", "encrypted.key", "ingress.tls.key: .*: not an unencrypted private key"),
        ("one.crt", "two.key", r"ingress.tls.key: .*two\.key: not the key of .*one\.crt"),
    ],
)
def test_a_fault_names_the_setting_and_the_file(
    files: Path, certificate: str, key: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        context(files, certificate, key)
