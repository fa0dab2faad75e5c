from __future__ import annotations

from pathlib import Path

import argon2
import pytest

from services.ingress.credentials import (
    Credential,
    load_credentials,
)
from services.ingress.passwords import hash_password
from shared.messages.model import MessageClass
from shared.settings.load import ConfigError

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASH = CHEAP.hash("secret")
OLD, WEAK = (
    argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, type=kind).hash("secret")
    for kind in (argon2.Type.I, argon2.Type.D)
)


def users(path: Path, text: str) -> Path:
    file = path / "users.yaml"
    file.write_text(text)
    return file


def test_a_hash_fits_its_password_only() -> None:
    hashed = hash_password("pässword")
    assert hashed.startswith("$argon2id$")
    assert argon2.PasswordHasher().verify(hashed, "pässword")
    assert hash_password("pässword") != hashed


def test_entries_have_a_name_a_hash_and_perhaps_tenant_and_class(tmp_path: Path) -> None:
    file = users(
        tmp_path,
        f"- {{username: a, password_hash: '{HASH}'}}\n"
        f"- {{username: b, password_hash: '{HASH}', tenant: t, message_class: bulk}}\n",
    )
    assert load_credentials(file) == (
        Credential(username="a", password_hash=HASH),
        Credential(username="b", password_hash=HASH, tenant="t", message_class=MessageClass.BULK),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a list of users"),
        ("a: b", "must be a list of users"),
        ("[]", "must be a list of users"),
        ("- a", "entry 1"),
        ("- {username: a}", "entry 1: give password_hash, certificates or oauth"),
        ("- {username: a, senders: [a b]}", "entry 1: senders: "),
        (
            "[{username: a, certificates: [X.test]}, {username: b, certificates: [x.test]}]",
            "entry 2: x.test comes twice",
        ),
        ("- {username: a, password_hash: secret}", "entry 1: password_hash: not an argon2 hash"),
        (f"- {{username: a, password_hash: '{OLD}'}}", "entry 1: password_hash: not an argon2id"),
        (f"- {{username: a, password_hash: '{WEAK}'}}", "entry 1: password_hash: not an argon2id"),
        (f"- {{username: '', password_hash: '{HASH}'}}", "entry 1: username: "),
        (f"- {{username: a, password_hash: '{HASH}', pw: x}}", "entry 1: pw: "),
        (f"- {{username: a, password_hash: '{HASH}', message_class: x}}", "entry 1: message_class"),
        (f"- &u {{username: a, password_hash: '{HASH}'}}\n- *u", "entry 2: the username comes twi"),
        ("- {username: [", "line 1"),
    ],
)
def test_a_fault_names_file_and_entry_and_no_secret(tmp_path: Path, text: str, said: str) -> None:
    file = users(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_credentials(file)
    line = str(caught.value)
    assert line.startswith("ingress.credentials_file: ")
    assert str(file) in line
    assert said in line
    assert "secret" not in line
    assert "\n" not in line


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        load_credentials(tmp_path / "nowhere.yaml")
