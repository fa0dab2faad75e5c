"""Whom a user may send as, and how much."""

from __future__ import annotations

import pytest

from services.ingress.policy import User
from services.ingress.senders import Quotas, parse_senders

HOUR = 3600


@pytest.mark.parametrize(
    ("address", "permitted"),
    [
        ("al@sender.test", True),
        ("AL@SENDER.test", True),
        ("bo@sender.test", False),
        ("anyone@shop.test", True),
        ("anyone@Sub.shop.test", False),
        ("x@sho\u00dfp.test", True),
        ("x@xn--shop-wna6h.test", False),
        ("al@sender.test@evil.test", False),
        ("", False),
    ],
)
def test_addresses_and_whole_domains_are_permitted(address: str, permitted: bool) -> None:
    senders = parse_senders(["al@sender.test", "@Shop.test", "sho\u00dfp.test"])
    assert senders.permits(address) is permitted


@pytest.mark.parametrize("entry", ["", "@", "al@", "*@x.test ", "@*.x.test", "a b@x.test"])
def test_an_entry_that_is_neither_address_nor_domain_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="neither an address nor a domain"):
        parse_senders([entry])


def send(quotas: Quotas, user: User, tries: int) -> int:
    """How many of so many messages with one recipient are accepted."""
    sent = 0
    for _ in range(tries):
        if quotas.message(user) and quotas.recipient(user):
            quotas.end(user, 1, accepted=True)
            sent += 1
    return sent


def test_no_hour_has_more_than_the_limit_wherever_it_begins() -> None:
    now = 0.0
    quotas = Quotas(lambda: now)
    user = User("al", "t", messages_per_hour=100, recipients_per_hour=1000)
    sent: list[tuple[float, int]] = []
    for now in range(0, 4 * HOUR, 7):
        sent.append((now, send(quotas, user, 3)))  # noqa: PERF401 - the clock reads `now`
    for begin in range(0, 3 * HOUR, 60):
        assert sum(n for at, n in sent if begin <= at < begin + HOUR) <= 100
    assert sum(n for _, n in sent) >= 390


def test_what_was_used_comes_back_within_a_minute_after_its_hour() -> None:
    now = 59.0
    quotas = Quotas(lambda: now)
    user, other = User("al", "t", messages_per_hour=4), User("bo", "t", messages_per_hour=1)
    assert send(quotas, user, 6) == 4
    assert send(quotas, other, 2) == 1
    now = 59.0 + HOUR
    assert send(quotas, user, 1) == 0
    now = 60.0 + 61 * 60.0
    assert send(quotas, user, 6) == 4


def test_what_is_under_way_is_reserved_and_what_is_not_accepted_given_back() -> None:
    quotas = Quotas(lambda: 0.0)
    user = User("al", "t", messages_per_hour=2, recipients_per_hour=3)
    assert [quotas.message(user) for _ in range(3)] == [True, True, False]
    assert [quotas.recipient(user) for _ in range(4)] == [True, True, True, False]
    quotas.end(user, 2, accepted=False)
    quotas.end(user, 1, accepted=True)
    assert [quotas.message(user) for _ in range(2)] == [True, False]
    assert [quotas.recipient(user) for _ in range(3)] == [True, True, False]


def test_sessions_count_until_they_end() -> None:
    quotas = Quotas(lambda: 0.0)
    user = User("al", "t", connections=2)
    assert [quotas.enter(user) for _ in range(3)] == [True, True, False]
    quotas.leave(user)
    assert [quotas.enter(user) for _ in range(2)] == [True, False]
