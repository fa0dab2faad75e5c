from __future__ import annotations

import asyncio

import argon2

from services.ingress.authentication import Authentication
from services.ingress.credentials import Authenticator, Credential
from services.ingress.throttle import Throttle

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ALICE = Credential(username="alice", password_hash=CHEAP.hash("secret"))


async def test_the_answer_to_a_wrong_password_waits_longer_each_time() -> None:
    authentication = Authentication(Authenticator([ALICE]), Throttle(first_delay=0.02))
    clock = asyncio.get_running_loop().time
    for least in (0.02, 0.04, 0.08):
        begun = clock()
        assert await authentication.decide(b"alice", b"wrong", "192.0.2.1") is None
        assert clock() - begun >= least
    authentication.close()


async def test_the_right_password_is_answered_at_once_whatever_came_before() -> None:
    authentication = Authentication(Authenticator([ALICE]), Throttle(first_delay=0.001))
    await authentication.decide(b"alice", b"wrong", "192.0.2.1")
    user = await authentication.decide(b"alice", b"secret", "192.0.2.1")
    assert user is not None
    assert user.username == "alice"
    authentication.close()
