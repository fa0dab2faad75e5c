"""Who is served among the consumers of one process, and what an idle one costs the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.broker.embedded.fences import Fences
from shared.broker.embedded.records import Subscription
from shared.broker.embedded.subscriptions import Subscriptions
from tests.conformance.harness import WORK, lane, lane_topology

LANE = lane(0)


@pytest.fixture
def here(tmp_path: Path) -> Subscriptions:
    return Subscriptions(lane_topology(x=1), Fences(tmp_path / "active"))


@pytest.fixture
def there(tmp_path: Path) -> Subscriptions:
    """Those of another process."""
    return Subscriptions(lane_topology(x=1), Fences(tmp_path / "active"))


def joined(subscriptions: Subscriptions, queue: str) -> Subscription:
    sub = Subscription(queue, 10, lambda _: None)
    subscriptions.join(sub)
    return sub


def test_one_consumer_of_a_single_active_queue_is_served_until_it_leaves(
    here: Subscriptions, there: Subscriptions
) -> None:
    first, second = joined(here, LANE), joined(there, LANE)
    assert (here.admit(), there.admit()) == (True, False)
    there.noticed({LANE})
    assert (list(here.hungry()), list(there.hungry())) == ([first], [])
    assert here.leave(first)
    assert there.admit()
    assert list(there.hungry()) == [second]


def test_a_queue_that_is_not_single_active_serves_all_at_once(
    here: Subscriptions, there: Subscriptions
) -> None:
    first, second = joined(here, WORK), joined(there, WORK)
    assert (list(here.hungry()), list(there.hungry())) == ([first], [second])
    assert not here.leave(first)
    assert not here.leave(first)


def test_a_lane_queue_of_a_former_plan_is_single_active_too(
    here: Subscriptions, there: Subscriptions
) -> None:
    joined(here, lane(7)), joined(there, lane(7))
    assert (here.admit(), there.admit()) == (True, False)


def test_what_happens_in_one_queue_touches_its_consumers_only(here: Subscriptions) -> None:
    idle = [joined(here, f"idle{number}") for number in range(300)]
    busy = joined(here, WORK)
    for sub in (*idle, busy):
        here.sated(sub)
    here.noticed({WORK, "nobody's"})
    assert list(here.hungry()) == [busy]
    assert here.wanting()
    busy.held = busy.prefetch
    assert not here.wanting()
    assert here.expecting()


def test_a_consumer_that_left_is_forgotten(here: Subscriptions) -> None:
    sub = joined(here, LANE)
    here.admit()
    here.leave(sub)
    here.noticed({LANE})
    assert (list(here), list(here.hungry()), here.consumed(LANE)) == ([], [], False)
