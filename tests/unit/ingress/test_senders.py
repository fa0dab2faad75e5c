"""Whom a user may send as, and how much."""

from __future__ import annotations

import pytest

from services.ingress.policy import User
from services.ingress.senders import HOUR, Quotas, parse_senders


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


def test_an_allowance_fills_up_evenly_over_the_hour() -> None:
    now = 0.0
    quotas = Quotas(lambda: now)
    user, other = User("al", "t", messages_per_hour=4), User("bo", "t", messages_per_hour=1)
    assert [quotas.message(user) for _ in range(6)] == [True] * 4 + [False] * 2
    assert quotas.message(other)
    assert quotas.recipient(user)
    now = HOUR / 4
    assert [quotas.message(user) for _ in range(2)] == [True, False]
    now = 100 * HOUR
    assert [quotas.message(user) for _ in range(5)] == [True] * 4 + [False]


def test_sessions_count_until_they_end() -> None:
    quotas = Quotas(lambda: 0.0)
    user = User("al", "t", connections=2)
    assert [quotas.enter(user) for _ in range(3)] == [True, True, False]
    quotas.leave(user)
    assert [quotas.enter(user) for _ in range(2)] == [True, False]
