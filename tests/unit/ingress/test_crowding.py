"""Sessions of one place: never more than the limits, and nothing is kept of who has left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.crowding import KNOWN_FOR, MINUTE, Crowd, CrowdLimits, places

NEAR = ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("192.0.2.77", ("192.0.2.77", "192.0.2.0/24")),
        ("::ffff:192.0.2.77", ("192.0.2.77", "192.0.2.0/24")),
        ("2001:db8:1:2:3:4:5:6", ("2001:db8:1:2::/64", "2001:db8:1::/48")),
    ],
)
def test_an_address_and_its_network_are_places(address: str, found: tuple[str, str]) -> None:
    assert places(address) == found


@given(st.lists(st.tuples(st.sampled_from(NEAR), st.booleans()), max_size=40))
def test_no_place_has_more_than_its_limit(steps: list[tuple[str, bool]]) -> None:
    crowd, here = Crowd(CrowdLimits(address=2, network=3, a_minute=1000)), list[str]()
    for address, comes in steps:
        if not comes:
            if address in here:
                here.remove(address)
                crowd.leave(address)
            continue
        near, far = places(address)
        room = (
            sum(places(other)[0] == near for other in here) < 2
            and sum(places(other)[1] == far for other in here) < 3
        )
        assert crowd.enter(address, 0.0) is room
        if room:
            here.append(address)
    for address in here:
        crowd.leave(address)
    assert crowd.enter(NEAR[0], 0.0)


def test_who_has_logged_in_is_known_for_a_day() -> None:
    crowd = Crowd(CrowdLimits(address=1, network=1, a_minute=1))
    assert not crowd.knows("2001:db8::1", 0.0)
    crowd.welcome("2001:db8::1", 0.0)
    assert crowd.knows("2001:db8::2", KNOWN_FOR - 1)
    assert not crowd.knows("2001:db8:0:1::1", 0.0)
    assert not crowd.knows("2001:db8::1", KNOWN_FOR)


def test_new_sessions_come_at_a_rate() -> None:
    crowd = Crowd(CrowdLimits(address=100, network=100, a_minute=6))
    assert [crowd.enter("192.0.2.1", 0.0) for _ in range(7)] == [True] * 6 + [False]
    assert crowd.enter("192.0.2.2", 0.0)
    assert [crowd.enter("192.0.2.1", MINUTE / 6) for _ in range(2)] == [True, False]
