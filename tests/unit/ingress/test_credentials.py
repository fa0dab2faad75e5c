from __future__ import annotations

from pathlib import Path

import argon2
import pytest

from services.ingress.credentials import (
    REMEMBERED_SECONDS,
    Authenticator,
    Credential,
    hash_password,
    load_credentials,
)
from services.ingress.policy import User
from shared.messages.model import MessageClass
from shared.settings.load import ConfigError

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASH = CHEAP.hash("secret")


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
        ("- {username: a}", "entry 1: give password_hash or certificates"),
        ("- {username: a, senders: [a b]}", "entry 1: senders: "),
        (
            "[{username: a, certificates: [X.test]}, {username: b, certificates: [x.test]}]",
            "entry 2: x.test comes twice",
        ),
        ("- {username: a, password_hash: secret}", "entry 1: password_hash: not an argon2 hash"),
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


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


ALICE = Credential(
    username="alice", password_hash=HASH, tenant="t", message_class=MessageClass.BULK
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(clock: Clock) -> Authenticator:
    return Authenticator([ALICE], clock)


async def test_the_right_password_gives_the_user(authenticator: Authenticator) -> None:
    user = User("alice", "t", MessageClass.BULK)
    assert await authenticator.check(b"alice", b"secret") == user
    assert await authenticator.check(b"alice", b"secret") == user


@pytest.mark.parametrize(
    ("username", "password"),
    [
        (b"alice", b"wrong"),
        (b"alice", b""),
        (b"Alice", b"secret"),
        (b"bob", b"secret"),
        (b"", b""),
        (b"\xff", b"\xff"),
        (b"alice", b"secret\0"),
    ],
)
async def test_anything_else_does_not(
    authenticator: Authenticator, username: bytes, password: bytes
) -> None:
    assert await authenticator.check(b"alice", b"secret") is not None
    assert await authenticator.check(username, password) is None


async def test_a_success_is_remembered_for_some_minutes(
    authenticator: Authenticator, clock: Clock
) -> None:
    await authenticator.check(b"alice", b"secret")
    authenticator.close()  # no thread is left to ask, so only memory can answer
    assert await authenticator.check(b"alice", b"secret") is not None
    clock.now = REMEMBERED_SECONDS + 1
    with pytest.raises(RuntimeError):
        await authenticator.check(b"alice", b"secret")


async def test_a_failure_is_never_remembered_and_an_unknown_user_costs_a_check(
    authenticator: Authenticator,
) -> None:
    await authenticator.check(b"alice", b"wrong")
    authenticator.close()
    for username in (b"alice", b"nobody"):
        with pytest.raises(RuntimeError):
            await authenticator.check(username, b"wrong")


async def test_nothing_that_is_kept_shows_the_password(authenticator: Authenticator) -> None:
    await authenticator.check(b"alice", b"secret")
    assert "secret" not in repr(vars(authenticator))
    assert HASH not in repr(ALICE)
