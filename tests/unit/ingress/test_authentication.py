"""How often a client may claim to be somebody, and what it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import argon2
import pytest

from services.ingress.authentication import Authentication
from services.ingress.authenticator import Authenticator, Grant
from services.ingress.credentials import Credential
from services.ingress.oauth import TokenVerifier
from services.ingress.sasl import CertificateClaim, Claim, PasswordClaim, TokenClaim
from services.ingress.throttle import MOST_OF_PLACE, Throttle
from shared.settings.accepting import OauthSettings
from shared.smtp.server_replies import AUTH_FAILED, TOO_MANY_GUESSES

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ALICE = Credential(username="alice", password_hash=CHEAP.hash("secret"), certificates=("a.test",))
RIGHT, WRONG = PasswordClaim(b"alice", b"secret"), PasswordClaim(b"alice", b"wrong")
HERE = "192.0.2.1"


@pytest.fixture
async def authentication() -> AsyncIterator[Authentication]:
    oauth = OauthSettings(issuer="i", audience=("a",), jwks_file=Path("none"))
    found = Authentication(
        Authenticator([ALICE]), Throttle(first_delay=0.0), TokenVerifier(oauth, ())
    )
    yield found
    found.close()


async def test_the_answer_to_a_wrong_password_waits_longer_each_time() -> None:
    authentication = Authentication(Authenticator([ALICE]), Throttle(first_delay=0.02))
    clock = asyncio.get_running_loop().time
    for least in (0.02, 0.04, 0.08):
        begun = clock()
        assert await authentication.decide(WRONG, HERE) is AUTH_FAILED
        assert clock() - begun >= least
    authentication.close()


async def test_the_right_password_is_answered_at_once_whatever_came_before(
    authentication: Authentication,
) -> None:
    await authentication.decide(WRONG, HERE)
    found = await authentication.decide(RIGHT, HERE)
    assert isinstance(found, Grant)
    assert found.user.username == "alice"
    assert authentication.holds(found)
    authentication.renew([ALICE.model_copy(update={"connections": 1})])
    assert not authentication.holds(found)


@pytest.mark.parametrize(
    "claim",
    [WRONG, PasswordClaim(b"", b""), CertificateClaim(b""), CertificateClaim(b"x"),
     TokenClaim(b"", b"token"), TokenClaim(b"", b"")],
)  # fmt: skip
async def test_wrong_claims_of_every_kind_block_their_place(
    authentication: Authentication, claim: Claim
) -> None:
    for _ in range(MOST_OF_PLACE):
        assert await authentication.decide(claim, "2001:db8::1") is AUTH_FAILED
    assert await authentication.decide(RIGHT, "2001:db8::2") is TOO_MANY_GUESSES
    assert isinstance(await authentication.decide(RIGHT, "2001:db8:0:1::1"), Grant)


async def test_who_leaves_before_the_answer_has_guessed_all_the_same(
    authentication: Authentication,
) -> None:
    for _ in range(MOST_OF_PLACE):
        guess = asyncio.ensure_future(authentication.decide(WRONG, HERE))
        await asyncio.sleep(0)
        guess.cancel()
        with pytest.raises(asyncio.CancelledError):
            await guess
    assert await authentication.decide(RIGHT, HERE) is TOO_MANY_GUESSES


async def test_a_certificate_is_a_claim_like_others(authentication: Authentication) -> None:
    found = await authentication.decide(CertificateClaim(b"alice"), HERE, ("a.test",))
    assert isinstance(found, Grant)
    wrong = CertificateClaim(b"bob")
    assert await authentication.decide(wrong, HERE, ("a.test",)) is AUTH_FAILED
