"""A certificate, users and a client that trusts it, made at run time."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import argon2
import trustme
import yaml

from tests.support.ingress import ingress_settings

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass(frozen=True)
class Site:
    """Certificate, key and users in a folder, and the context of a client that trusts it."""

    folder: Path
    client: ssl.SSLContext

    @property
    def files(self) -> dict[str, str]:
        """The setting `ingress.tls`."""
        return {"certificate": str(self.folder / "crt"), "key": str(self.folder / "key")}

    def settings(self, **listener: Any) -> Any:
        return ingress_settings(
            self.folder,
            {"address": "127.0.0.1", "port": 0, "auth": "required", **listener},
            tls=self.files,
            credentials_file=str(self.folder / "users.yaml"),
        )


def make_site(folder: Path) -> Site:
    """Users are alice (`secret`) and bob (`pass word`)."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "crt")
    certificate.private_key_pem.write_to_path(folder / "key")
    users = [
        {"username": "alice", "password_hash": CHEAP.hash("secret"), "message_class": "bulk"},
        {"username": "bob", "password_hash": CHEAP.hash("pass word"), "tenant": "b"},
    ]
    (folder / "users.yaml").write_text(yaml.safe_dump(users))
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Site(folder, client)
