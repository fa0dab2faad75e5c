from __future__ import annotations

from services.ingress.throttle import FORGET_AFTER, LONGEST_DELAY, MOST_KEYS, Throttle


def test_each_failure_doubles_the_delay_up_to_a_limit() -> None:
    throttle = Throttle(0.25)
    delays = [throttle.failed("address", now=0.0) for _ in range(50)]
    assert delays[:4] == [0.25, 0.5, 1.0, 2.0]
    assert delays[-1] == LONGEST_DELAY


def test_the_key_with_most_failures_counts() -> None:
    throttle = Throttle(1.0)
    for number in range(3):
        throttle.failed(("address", number), "one name", now=0.0)
    assert throttle.failed("new address", "one name", now=0.0) == 8.0
    assert throttle.failed("other address", "other name", now=0.0) == 1.0


def test_success_and_time_forgive() -> None:
    throttle = Throttle(1.0)
    throttle.failed("a", now=0.0)
    throttle.succeeded("a", "never seen")
    assert throttle.failed("a", now=1.0) == 1.0
    assert throttle.failed("a", now=2.0) == 2.0
    assert throttle.failed("a", now=2.1 + FORGET_AFTER) == 1.0


def test_memory_is_bounded() -> None:
    throttle = Throttle(1.0)
    throttle.failed("first", now=0.0)
    for number in range(MOST_KEYS):
        throttle.failed(number, now=0.0)
    assert throttle.failed("first", now=0.0) == 1.0
