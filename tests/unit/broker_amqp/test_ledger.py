"""The ledger of confirms, against a model that is too simple to be wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.broker.amqp.ledger import Ledger


def ledger_of(count: int) -> Ledger[int]:
    ledger: Ledger[int] = Ledger()
    for number in range(1, count + 1):
        assert ledger.published((f"id{number}", "q"), number) == number
    return ledger


def test_one_acknowledgement_settles_its_own_publish() -> None:
    ledger = ledger_of(3)
    ledger.acknowledged(2, multiple=False)
    assert ledger.take_settled().stored == [2]
    assert (len(ledger), ledger.oldest()) == (2, 1)


def test_a_multiple_acknowledgement_settles_everything_up_to_its_tag() -> None:
    ledger = ledger_of(4)
    ledger.acknowledged(3, multiple=True)
    assert ledger.take_settled().stored == [1, 2, 3]


def test_a_refusal_fails_only_what_it_names() -> None:
    ledger = ledger_of(3)
    ledger.refused(2, multiple=False)
    ledger.acknowledged(3, multiple=True)
    settled = ledger.take_settled()
    assert (settled.refused, settled.stored) == ([2], [1, 3])


def test_a_returned_message_fails_though_it_is_acknowledged() -> None:
    ledger = ledger_of(3)
    ledger.returned(("id2", "q"))
    ledger.acknowledged(3, multiple=True)
    settled = ledger.take_settled()
    assert (settled.returned, settled.stored) == ([2], [1, 3])


def test_a_late_acknowledgement_of_an_old_channel_settles_nothing_new() -> None:
    ledger = ledger_of(2)
    assert ledger.abandon() == [1, 2]
    ledger.published(("new", "q"), 9)
    ledger.acknowledged(2, multiple=False)
    assert ledger.take_settled().stored == []
    assert ledger.oldest() == 9


def test_the_same_id_returned_twice_before_one_acknowledgement_is_stored_never() -> None:
    ledger: Ledger[int] = Ledger()
    for number in (1, 2):
        ledger.published(("id", "missing"), number)
        ledger.returned(("id", "missing"))
    ledger.acknowledged(2, multiple=True)
    settled = ledger.take_settled()
    assert (settled.returned, settled.stored) == ([1, 2], [])


def test_a_return_of_a_refused_publish_is_not_held_against_the_next_one() -> None:
    ledger: Ledger[int] = Ledger()
    ledger.published(("id", "q"), 1)
    ledger.returned(("id", "q"))
    ledger.refused(1, multiple=False)
    ledger.published(("id", "q"), 2)
    ledger.acknowledged(2, multiple=False)
    settled = ledger.take_settled()
    assert (settled.refused, settled.returned, settled.stored) == ([1], [], [2])


def test_a_return_fails_the_publish_to_its_own_queue_only() -> None:
    ledger: Ledger[int] = Ledger()
    ledger.published(("id", "there"), 1)
    ledger.published(("id", "missing"), 2)
    ledger.returned(("id", "missing"))
    ledger.acknowledged(2, multiple=True)
    settled = ledger.take_settled()
    assert (settled.returned, settled.stored) == ([2], [1])


def test_what_has_expired_is_settled_by_no_late_confirm() -> None:
    ledger = ledger_of(4)
    assert ledger.expire(lambda number: number <= 2) == [1, 2]
    ledger.acknowledged(1, multiple=False)
    ledger.acknowledged(3, multiple=True)
    assert ledger.take_settled().stored == [3]
    assert (len(ledger), ledger.oldest()) == (1, 4)


@given(
    st.integers(0, 30),
    st.lists(st.tuples(st.integers(1, 35), st.booleans(), st.booleans()), max_size=40),
    st.sets(st.integers(1, 30)),
)
def test_every_publish_is_settled_once_at_most_and_never_forgotten(
    count: int, answers: list[tuple[int, bool, bool]], returned: set[int]
) -> None:
    ledger = ledger_of(count)
    for number in returned:
        ledger.returned((f"id{number}", "q"))
    for tag, multiple, positive in answers:
        if positive:
            ledger.acknowledged(tag, multiple=multiple)
        else:
            ledger.refused(tag, multiple=multiple)
    settled = ledger.take_settled()
    assert not set(settled.stored) & returned
    everything = [*settled.stored, *settled.refused, *settled.returned, *ledger.abandon()]
    assert sorted(everything) == list(range(1, count + 1))
