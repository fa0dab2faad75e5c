"""Which lines are kept: a mail has all its lines or none, and the same in every service."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from shared.log_sampling import sampling
from shared.messages.ids import mail_id

KINDS = ("accepted", "routed", "delivered", "deferred")


def test_where_all_is_wanted_nothing_is_asked() -> None:
    assert sampling({"accepted": 1, "delivered": 1}) is None


@given(st.text(), st.integers(2, 1_000_000))
def test_a_mail_has_all_its_lines_or_none(ident: str, rate: int) -> None:
    kept = sampling(dict.fromkeys(KINDS, rate))
    assert kept is not None

    assert {kept(kind, ident) for kind in KINDS} in ({0}, {rate})


@given(st.text(), st.integers(1, 1000), st.integers(1, 1000))
def test_what_the_rarer_kind_keeps_the_other_keeps_as_well(ident: str, one: int, more: int) -> None:
    kept = sampling({"accepted": one, "delivered": one * (more + 1)})
    assert kept is not None

    assert not kept("delivered", ident) or kept("accepted", ident) == one


@given(st.text(), st.sampled_from(("failed", "expired", "uncertain", "parked", "dsn", "new")))
def test_a_kind_without_a_rate_is_always_kept(ident: str, kind: str) -> None:
    kept = sampling(dict.fromkeys(KINDS, 1_000_000))
    assert kept is not None

    assert kept(kind, ident) == 1


def test_one_in_so_many_is_kept() -> None:
    kept = sampling({"delivered": 10})
    assert kept is not None
    idents = [mail_id(number, os.urandom(10)) for number in range(20_000)]

    assert 1_600 < sum(kept("delivered", ident) == 10 for ident in idents) < 2_400
