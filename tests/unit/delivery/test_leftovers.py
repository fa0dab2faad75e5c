from __future__ import annotations

from services.delivery.holding import Partition, Trace
from services.delivery.leftovers import Leftovers, merged

FIRST = Partition("bulk", 1)


def trace(site: str, connections: int = 0, *opened: int) -> Trace:
    return Trace("bulk", 1, site, connections, opened)


def test_what_was_opened_grows_old_and_is_forgotten_after_a_minute() -> None:
    leftovers = Leftovers()
    leftovers.keep(FIRST, [trace("a.test", 2, 5, 1)], now=100.0)

    assert leftovers.told((), 100.0) == (trace("a.test", 0, 5, 1),)
    assert leftovers.told((), 104.9) == (trace("a.test", 0, 5, 1),)
    assert leftovers.told((), 111.0) == (trace("a.test", 0, 0, 0, 5, 1),)
    assert leftovers.told((), 160.1) == (trace("a.test", 0, *[0] * 12, 5),)
    assert leftovers.told((), 165.0) == ()
    assert leftovers.told((), 100.0) == ()


def test_what_is_still_open_is_told_by_the_newest_word() -> None:
    leftovers = Leftovers()
    leftovers.keep(FIRST, [trace("a.test", 2, 5), trace("b.test", 1, 1)], now=0.0)
    remains = [trace("a.test", 1, 0, 5), Trace("otp", 0, "c.test", 1)]

    told = leftovers.told(remains, 5.0)

    assert set(told) == {*remains, trace("b.test", 0, 0, 1)}


def test_a_partition_that_others_serve_is_forgotten() -> None:
    leftovers = Leftovers()
    leftovers.keep(FIRST, [trace("a.test", 0, 5)], now=0.0)
    leftovers.forget([FIRST, Partition("bulk", 2)])

    assert leftovers.told((), 0.0) == ()


def test_what_several_have_at_one_site_is_added_up_slot_by_slot() -> None:
    traces = [trace("b.test", 1), trace("a.test", 1, 1, 2, 3), trace("a.test", 2, 10)]

    assert merged(traces) == (trace("a.test", 3, 11, 2, 3), trace("b.test", 1))


def test_the_same_site_in_two_partitions_stays_apart() -> None:
    traces = [Trace("bulk", 1, "a.test", 1), Trace("bulk", 2, "a.test", 1)]

    assert merged(traces) == tuple(traces)
