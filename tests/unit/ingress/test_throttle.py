"""What guessing costs, and what it does not cost others."""

from __future__ import annotations

from services.ingress.throttle import (
    BLOCKED_SECONDS,
    FORGIVE_SECONDS,
    LONGEST_DELAY,
    MOST_KEYS,
    MOST_OF_ACCOUNT,
    MOST_OF_OWNER,
    MOST_OF_PLACE,
    Throttle,
    Verdict,
)

PLACE, AL, BO = "192.0.2.1", b"al", b"bo"


def test_each_failure_doubles_the_delay_up_to_a_limit() -> None:
    throttle = Throttle(0.25)
    delays = [throttle.failed(PLACE, AL, 0.0) for _ in range(50)]
    assert delays[:4] == [0.25, 0.5, 1.0, 2.0]
    assert delays[-1] == LONGEST_DELAY


def test_many_names_of_one_place_and_many_places_for_one_name_are_slow() -> None:
    throttle = Throttle(1.0)
    for number in range(3):
        throttle.failed(PLACE, b"%d" % number, 0.0)
        throttle.failed(f"place {number}", AL, 0.0)
    assert throttle.failed(PLACE, b"new", 0.0) == 8.0
    assert throttle.failed("new", AL, 0.0) == 8.0
    assert throttle.failed("other", b"other", 0.0) == 1.0


def test_an_account_of_ones_own_does_not_wipe_out_what_was_guessed_at_others() -> None:
    throttle = Throttle()
    verdicts = []
    for number in range(MOST_OF_PLACE):
        victim = b"victim %d" % number
        verdicts.append(throttle.verdict(PLACE, victim, 0.0))
        throttle.failed(PLACE, victim, 0.0)
        throttle.succeeded(PLACE, b"mine", 0.0)
    assert set(verdicts) == {Verdict.TRY}
    assert throttle.verdict(PLACE, b"one more", 0.0) is Verdict.PLACE_BLOCKED
    assert throttle.verdict(PLACE, b"mine", 0.0) is Verdict.TRY
    assert throttle.verdict(PLACE, b"", 0.0) is Verdict.PLACE_BLOCKED
    assert throttle.verdict("another", b"one more", 0.0) is Verdict.TRY
    assert throttle.verdict(PLACE, b"one more", BLOCKED_SECONDS) is Verdict.TRY


def test_a_success_forgives_what_the_same_account_failed_at_the_same_place() -> None:
    throttle = Throttle(1.0)
    for _ in range(3):
        throttle.failed(PLACE, AL, 0.0)
    throttle.failed(PLACE, BO, 0.0)
    throttle.failed("elsewhere", AL, 0.0)
    throttle.succeeded(PLACE, AL, 0.0)
    assert throttle.failed(PLACE, b"new", 0.0) == 2.0  # the one of `bo` is left
    assert throttle.failed("new", AL, 0.0) == 2.0  # the one from elsewhere is left


def test_whoever_guesses_from_many_places_does_not_lock_the_owner_out() -> None:
    throttle = Throttle()
    throttle.succeeded(PLACE, AL, 0.0)
    for number in range(MOST_OF_ACCOUNT):
        throttle.failed(f"place {number}", AL, 1.0)
    assert throttle.verdict("a new place", AL, 1.0) is Verdict.ACCOUNT_DEFERRED
    assert throttle.verdict(PLACE, AL, 1.0) is Verdict.TRY
    assert throttle.verdict("a new place", BO, 1.0) is Verdict.TRY
    assert throttle.verdict("a new place", AL, 2.0 + FORGIVE_SECONDS) is Verdict.TRY


def test_a_known_place_that_guesses_is_a_place_like_any_other() -> None:
    throttle = Throttle()
    throttle.succeeded(PLACE, AL, 0.0)
    for _ in range(MOST_OF_PLACE):
        throttle.failed(PLACE, BO, 0.0)
    assert throttle.verdict(PLACE, AL, 0.0) is Verdict.TRY
    for _ in range(MOST_OF_OWNER):
        throttle.failed(PLACE, AL, 0.0)
    assert throttle.verdict(PLACE, AL, 0.0) is Verdict.PLACE_BLOCKED


def test_time_forgives_one_failure_after_the_other() -> None:
    throttle = Throttle(1.0)
    for _ in range(4):
        throttle.failed(PLACE, AL, 0.0)
    assert throttle.failed(PLACE, AL, 3 * FORGIVE_SECONDS) == 2.0
    assert throttle.failed(PLACE, AL, 9 * FORGIVE_SECONDS) == 1.0


def test_memory_is_bounded_whatever_is_tried() -> None:
    throttle = Throttle(1.0)
    throttle.failed("first", AL, 0.0)
    for number in range(MOST_KEYS):
        throttle.failed(f"{number}", b"x" * 1000 + b"%d" % number, 0.0)
        throttle.succeeded(f"{number}", b"%d" % number, 0.0)
    assert throttle.failed("first", AL, 0.0) == 1.0
    tables = (throttle._places, throttle._accounts, throttle._pairs)
    assert {len(table._found) for table in tables} == {MOST_KEYS}
    assert len(throttle._known._until) == MOST_KEYS
    assert max(map(len, throttle._accounts._found)) == 16
