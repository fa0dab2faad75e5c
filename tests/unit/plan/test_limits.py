"""What of the configured limits holds for a site, and that its parts add up."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.plan.limits import KEYS, Limits, LimitTable
from shared.settings.shaping import LimitsSettings, SiteLimits

LIMITS = st.builds(
    Limits,
    st.integers(1, 300),
    st.integers(1, 1000),
    st.integers(1, 1000),
    st.one_of(st.just(0.0), st.floats(0.01, 1e6)),
    st.one_of(st.just(0), st.integers(1, 300)),
)


@given(LIMITS, st.data())
def test_all_parts_add_up_to_the_whole_and_each_can_do_something(
    whole: Limits, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, whole.divisible_by))
    parts = [whole.part(number, count) for number in range(count)]
    assert sum(part.connections for part in parts) == whole.connections
    assert sum(part.connections_per_minute for part in parts) == whole.connections_per_minute
    total = sum(part.messages_per_second for part in parts)
    assert total == pytest.approx(whole.messages_per_second)
    for part in parts:
        assert part.connections >= 1
        assert bool(part.connections_per_minute) == bool(whole.connections_per_minute)
        assert bool(part.messages_per_second) == bool(whole.messages_per_second)
        assert part.messages_per_connection == whole.messages_per_connection
        assert part.recipients_per_transaction == whole.recipients_per_transaction


@given(LIMITS)
def test_the_only_part_is_the_whole(whole: Limits) -> None:
    assert whole.part(0, 1) == whole


def table(*overrides: dict[str, object], **default: object) -> LimitTable:
    return LimitTable(
        LimitsSettings.model_validate({"default": default, "overrides": list(overrides)})
    )


def test_without_configuration_the_defaults_hold() -> None:
    defaults = tuple(getattr(SiteLimits(), key) for key in KEYS)
    assert astuple(table().find("other", "mx.test")) == defaults
    assert astuple(Limits()) == defaults


def test_an_override_says_only_what_it_names() -> None:
    limits = table({"match": {"providers": ["google"]}, "connections": 50}, connections=7)
    assert limits.find("google", "*.google.com").connections == 50
    assert limits.find("google", "*.google.com").messages_per_connection == 100
    assert limits.find("other", "mx.test").connections == 7


def test_every_override_that_matches_counts_and_the_last_word_is_the_last_one_s() -> None:
    limits = table(
        {"match": {"providers": ["google"]}, "connections": 50, "messages_per_second": 9},
        {"match": {"sites": ["*.google.com"]}, "connections": 5},
        {"match": {"providers": ["yahoo"]}, "connections": 1},
        {"match": {"domains": ["slow.example"]}, "messages_per_second": 0},
    )
    google = limits.find("google", "*.google.com")
    assert (google.connections, google.messages_per_second) == (5, 9)
    slow = limits.find("google", "slow.example", "slow.example")
    assert (slow.connections, slow.messages_per_second) == (50, 0)


def test_every_key_of_a_match_has_to_hold() -> None:
    limits = table({"match": {"providers": ["google"], "sites": ["a", "b"]}, "connections": 3})
    found = [
        limits.find(provider, site).connections
        for provider, site in (("google", "b"), ("google", "c"), ("other", "a"))
    ]
    assert found == [3, 20, 20]


def test_domains_are_compared_as_the_router_knows_them() -> None:
    limits = table({"match": {"domains": ["Bücher.Example."]}, "connections": 2})
    assert limits.domains == {"xn--bcher-kva.example"}
    name = "xn--bcher-kva.example"
    assert limits.find("other", name, name).connections == 2
