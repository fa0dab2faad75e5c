"""How many jobs of one site come back in time, and which have time."""

from __future__ import annotations

from services.delivery.crowds import A_SECOND, FAR, MANY, Crowd, is_far


def test_the_first_jobs_that_are_sent_away_are_no_crowd_and_those_after_them_are() -> None:
    crowd = Crowd()
    assert [crowd.grows(100.0) for _ in range(MANY + 2)] == [False] * MANY + [True] * 2


def test_so_many_a_second_come_back_in_time_however_many_are_sent_away() -> None:
    crowd = Crowd()
    for _ in range(10 * MANY):
        crowd.grows(100.0)
    in_time = sum(not crowd.grows(100.0 + n / 1000) for n in range(60_000))
    assert 60 * A_SECOND - 1 <= in_time <= 60 * A_SECOND + 1


def test_a_crowd_is_forgotten_when_it_has_gone() -> None:
    crowd = Crowd()
    for _ in range(10 * MANY):
        crowd.grows(100.0)
    later = 100.0 + MANY / A_SECOND
    assert [crowd.grows(later) for _ in range(MANY + 1)] == [False] * MANY + [True]


def test_a_far_turn_leaves_time_for_the_longest_step_and_as_much_again() -> None:
    assert not is_far(1000.0 + FAR, 1000.0)
    assert is_far(1001.0 + FAR, 1000.0)
