"""That a mail is late is told once, to whom it concerns."""

from __future__ import annotations

import pytest

from shared.mail.delays import Pair, tell_of_delay
from shared.messages.model import Content, DeliverBy, DeliveryJob, DsnWishes, Recipient
from shared.smtp.replies import Reply

LATER = Reply(451, "4.4.3", "no answer")
NOTICE_MS = 1_000_000


def job(by: DeliverBy | None, dsn: DsnWishes | None = None, path: str = "s@a.test") -> DeliveryJob:
    return DeliveryJob("J", "M", 0.0, path, (), Content(0), "b.test", (), deliver_by=by, dsn=dsn)


def waiting(*notify: str) -> list[Pair]:
    return [(Recipient(f"r{n}@b.test", wish), LATER) for n, wish in enumerate(notify)]


def told(one: DeliveryJob, pairs: list[Pair], now: float) -> tuple[DeliveryJob, list[str]]:
    after, asked = tell_of_delay(one, pairs, now, NOTICE_MS)
    return after, [who.address for who, _ in asked]


def test_a_deadline_that_passed_is_told_once_to_whoever_did_not_leave_it_out() -> None:
    one = job(DeliverBy(100.0))
    pairs = waiting("", "NEVER", "FAILURE", "DELAY,FAILURE")
    assert told(one, pairs, 99.0) == (one, [])
    after, addresses = told(one, pairs, 100.0)
    assert addresses == ["r0@b.test", "r3@b.test"]
    assert told(after, pairs, 200.0) == (after, [])


@pytest.mark.parametrize(
    "one",
    [
        job(DeliverBy(1.0, returns=True)),
        job(DeliverBy(1.0, told=True)),
    ],
)
def test_of_some_deadlines_nothing_is_told(one: DeliveryJob) -> None:
    assert told(one, waiting(""), 100.0) == (one, [])


def test_who_is_late_in_both_ways_is_told_once() -> None:
    one = job(DeliverBy(1000.0), DsnWishes())
    _, addresses = told(one, waiting("DELAY"), 1000.0)
    assert addresses == ["r0@b.test"]


def test_that_nobody_waits_is_not_told() -> None:
    one = job(DeliverBy(1.0), DsnWishes())
    assert told(one, [], 9999.0) == (one, [])


def test_the_null_reverse_path_is_told_nothing_and_counts_as_told() -> None:
    after, addresses = told(job(DeliverBy(1.0), DsnWishes(), path=""), waiting("DELAY"), 9999.0)
    assert addresses == []
    assert after.deliver_by == DeliverBy(1.0, told=True)
