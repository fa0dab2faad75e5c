"""What is remembered of attempts, and for how long."""

from __future__ import annotations

import pytest

from services.delivery.repeats import Repeats, key_of
from shared.messages.model import Content, DeliveryJob, Recipient
from shared.messages.outcome import Deferred, Delivered, Failed, Outcome, Unknown
from shared.smtp.replies import Reply

OK = Reply(250, "2.0.0", "Ok")


def job(name: str, attempt: int = 0, recipients: int = 1) -> DeliveryJob:
    return DeliveryJob(
        id=name,
        mail_id="mail",
        accepted_at=0.0,
        reverse_path="",
        recipients=tuple(Recipient(f"r{n}@b.test") for n in range(recipients)),
        content=Content(0),
        destination="b.test",
        exchangers=(),
        attempt=attempt,
    )


@pytest.mark.parametrize("outcome", [Delivered(OK), Unknown(OK)])
def test_an_attempt_that_a_receiver_may_have_taken_is_remembered(outcome: Outcome) -> None:
    repeats = Repeats()
    outcomes = (Deferred(OK), outcome)
    repeats.remember(key_of(job("a")), outcomes)

    assert repeats.recall(job("a", recipients=2)) == outcomes


@pytest.mark.parametrize("outcome", [Deferred(OK), Failed(OK, "other")])
def test_an_attempt_that_no_receiver_took_may_be_made_again(outcome: Outcome) -> None:
    repeats = Repeats()
    repeats.remember(key_of(job("a")), (outcome,))

    assert repeats.recall(job("a")) is None


def test_another_attempt_or_another_job_is_not_a_repeat() -> None:
    repeats = Repeats()
    repeats.remember(key_of(job("a")), (Delivered(OK),))

    assert repeats.recall(job("a", attempt=1)) is None
    assert repeats.recall(job("b")) is None
    assert repeats.recall(job("a", recipients=2)) is None


def test_the_oldest_attempts_are_forgotten() -> None:
    repeats = Repeats(capacity=2)
    for name in ("a", "b", "c"):
        repeats.remember(key_of(job(name)), (Delivered(OK),))

    assert repeats.recall(job("a")) is None
    assert repeats.recall(job("b")) is not None
    assert repeats.recall(job("c")) is not None
