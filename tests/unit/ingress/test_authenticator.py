"""Who the users are, and that those who are not cost as much."""

from __future__ import annotations

import argon2
import pytest
import structlog

from services.ingress.authenticator import Authenticator, Grant, _decoy
from services.ingress.credentials import Credential
from services.ingress.oauth import Identity
from services.ingress.passwords import REMEMBERED_SECONDS, cost_of
from services.ingress.policy import User
from shared.messages.model import MessageClass

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASH = CHEAP.hash("secret")


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
    assert await authenticator.check(b"alice", b"secret", "p") == Grant(user, ALICE)
    assert await authenticator.check(b"alice", b"secret", "p") == Grant(user, ALICE)


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
    assert await authenticator.check(b"alice", b"secret", "p") is not None
    assert await authenticator.check(username, password, "p") is None


async def test_a_success_is_remembered_for_some_minutes(
    authenticator: Authenticator, clock: Clock
) -> None:
    await authenticator.check(b"alice", b"secret", "p")
    authenticator.close()  # no thread is left to ask, so only memory can answer
    assert await authenticator.check(b"alice", b"secret", "p") is not None
    clock.now = REMEMBERED_SECONDS + 1
    with pytest.raises(RuntimeError):
        await authenticator.check(b"alice", b"secret", "p")


async def test_a_failure_is_never_remembered_and_an_unknown_user_costs_a_check(
    authenticator: Authenticator,
) -> None:
    await authenticator.check(b"alice", b"wrong", "p")
    authenticator.close()
    for username in (b"alice", b"nobody"):
        with pytest.raises(RuntimeError):
            await authenticator.check(username, b"wrong", "p")


async def test_a_stranger_does_not_learn_that_a_password_is_that_of_a_user(
    authenticator: Authenticator,
) -> None:
    assert await authenticator.check(b"alice", b"secret", "p") is not None
    authenticator.close()  # what is remembered would answer at once, and tell
    with pytest.raises(RuntimeError):
        await authenticator.check(b"nobody", b"secret", "p")


async def test_nothing_that_is_kept_shows_the_password(authenticator: Authenticator) -> None:
    await authenticator.check(b"alice", b"secret", "p")
    assert "secret" not in repr(vars(authenticator)) + repr(vars(authenticator._checks))
    assert HASH not in repr(ALICE)


async def test_an_unknown_user_costs_what_most_users_cost() -> None:
    dear = argon2.PasswordHasher(time_cost=3, memory_cost=16, parallelism=1)
    users = [
        Credential(username=name, password_hash=hasher.hash(name))
        for name, hasher in (("a", CHEAP), ("b", dear), ("c", dear), ("d", dear))
    ]
    with structlog.testing.capture_logs() as said:
        assert cost_of(_decoy(users)) == (16, 3, 1)
        _decoy(users[1:])
    (warning,) = said
    assert "differ in cost" in warning["event"]
    assert warning["users"] == ["a"]


async def test_whoever_has_not_changed_is_known_on(authenticator: Authenticator) -> None:
    granted = await authenticator.check(b"alice", b"secret", "p")
    assert granted is not None
    authenticator.renew([Credential.model_validate(ALICE.model_dump())])
    assert authenticator.knows(granted.credential)
    authenticator.renew([ALICE.model_copy(update={"tenant": "other"})])
    assert not authenticator.knows(granted.credential)
    authenticator.renew([Credential(username="bo", password_hash=HASH)])
    assert not authenticator.knows(granted.credential)


def test_a_token_needs_an_entry_that_permits_it() -> None:
    bo = Credential(username="bo", oauth=True, tenant="t")
    authenticator = Authenticator([ALICE, bo])
    until = 100.0
    granted = authenticator.by_token(Identity("bo", "", until), b"bo")
    assert granted == Grant(User("bo", "t"), bo, until)
    granted = authenticator.by_token(Identity("bo", "shop", until), b"")
    assert granted is not None
    assert granted.user.tenant == "shop"
    assert authenticator.by_token(Identity("bo", "", until), b"alice") is None
    assert authenticator.by_token(Identity("alice", "", until), b"") is None
    assert authenticator.by_token(Identity("nobody", "", until), b"") is None
