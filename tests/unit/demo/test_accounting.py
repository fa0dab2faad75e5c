from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.demo.accounting import (
    Accepted,
    Account,
    Arrival,
    Pair,
    Quantiles,
    measure,
    quantiles,
    settle,
)

A1, A2, B1 = ("m1", "a@x"), ("m1", "nobody@x"), ("m2", "b@x")
SENT = {A1: False, A2: True, B1: False}
ACCEPTED = {
    "m1": Accepted(("a@x", "nobody@x"), at=10.0, latency=0.5),
    "m2": Accepted(("b@x",), at=12.0, latency=0.1),
}


def account(
    *arrivals: Arrival, bounces: tuple[Pair, ...] = (A2,), parked: tuple[Pair, ...] = ()
) -> Account:
    return settle(SENT, ACCEPTED, arrivals, bounces, parked)


def test_delivered_and_bounced_recipients_are_accounted_for() -> None:
    found = account(Arrival(A1, 10.5), Arrival(B1, 14.0, deferred=True))
    assert found.good
    assert (found.messages, found.recipients) == (2, 3)
    assert (found.delivered, found.deferred_first, found.bounced, found.duplicates) == (2, 1, 1, 0)


def test_a_recipient_of_whom_nothing_is_heard_is_lost() -> None:
    found = account(Arrival(A1, 10.5))
    assert found.lost == {B1}
    assert not found.good


def test_a_refused_recipient_without_a_dsn_is_lost() -> None:
    found = account(Arrival(A1, 10.5), Arrival(B1, 14.0), bounces=())
    assert found.lost == {A2}


def test_a_parked_recipient_is_not_lost() -> None:
    found = account(Arrival(A1, 10.5), parked=(B1, ("m9", "other@x")))
    assert found.good
    assert found.parked == 1


def test_copies_beyond_the_first_are_duplicates_and_no_failure() -> None:
    found = account(*[Arrival(A1, 10.5)] * 3, Arrival(B1, 14.0), bounces=(A2, A2))
    assert found.good
    assert (found.delivered, found.bounced, found.duplicates) == (2, 1, 3)


def test_what_must_not_happen_is_told_with_the_recipient() -> None:
    found = account(
        Arrival(A1, 10.5, intact=False),
        Arrival(A2, 10.5),
        Arrival(B1, 14.0),
        Arrival(("m2", "stranger@x"), 1.0),
        bounces=(B1,),
    )
    assert not found.good
    assert {(u.what, u.pair) for u in found.unexpected} == {
        ("content damaged", A1),
        ("arrived though refused", A2),
        ("arrived but never sent", ("m2", "stranger@x")),
        ("bounced without cause", B1),
    }


def test_mail_that_arrives_without_a_250_is_neither_lost_nor_unexpected() -> None:
    found = settle(SENT, {}, [Arrival(A1, 1.0)], ())
    assert found.good
    assert found.recipients == 0


@given(st.sets(st.sampled_from([A1, A2, B1])), st.sets(st.sampled_from([A1, A2, B1])))
def test_lost_is_exactly_what_is_in_no_other_set(arrived: set[Pair], parked: set[Pair]) -> None:
    found = settle(SENT, ACCEPTED, [Arrival(pair, 1.0) for pair in arrived], (), parked)
    assert found.lost == {A1, A2, B1} - arrived - parked


def test_quantiles_go_by_nearest_rank() -> None:
    assert quantiles([]) is None
    assert quantiles([3.0]) == Quantiles(3.0, 3.0)
    assert quantiles([float(n) for n in range(100, 0, -1)]) == Quantiles(50.0, 99.0)


def test_speeds_count_from_the_first_mail_and_never_wait_less_than_nothing() -> None:
    speeds = measure(ACCEPTED, [Arrival(A1, 9.9), Arrival(B1, 14.5, deferred=True)])
    assert speeds.accept_rate == 2 / 2.5
    assert speeds.whole_rate == 2 / 5.0
    assert speeds.delivered_at_once == Quantiles(0.0, 0.0)
    assert speeds.delivered_late == Quantiles(2.5, 2.5)


def test_speeds_of_nothing_are_unknown() -> None:
    speeds = measure({}, [])
    assert (speeds.accept_rate, speeds.whole_rate, speeds.accept) == (None, None, None)
