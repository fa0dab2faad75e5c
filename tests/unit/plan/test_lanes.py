"""Where jobs go: always to the same place, and no two places share a part of a site's limits."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.broker.topology import lane_queue
from shared.messages.model import Content, DeliveryJob, MessageClass
from shared.plan.lanes import LanePlan, Place, lane_names
from shared.plan.limits import LimitTable
from shared.settings.shaping import LaneMatch, LaneSettings, LimitsSettings, SiteLimits, check_lanes

PROVIDERS = ("google", "yahoo", "other")
SITES = ("*.google.com", "mx.test", "slow.test", "a.test~x")
TENANTS = ("bank", "shop", "default")


def job(number: int = 0, site: str = "mx.test", **changes: Any) -> DeliveryJob:
    fields = {"provider": "other", "destination": "d.test"} | changes
    return DeliveryJob(
        f"job{number}", "m", 1.0, "", (), Content(0), exchangers=(), site=site, **fields
    )


def plan(*lanes: dict[str, Any], **limits: Any) -> LanePlan:
    settings = check_lanes(tuple(LaneSettings.model_validate(lane) for lane in lanes))
    return LanePlan(settings, LimitTable(LimitsSettings(default=SiteLimits(**limits))))


def some(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


MATCHES = st.builds(
    LaneMatch,
    providers=some(PROVIDERS),
    sites=some(SITES),
    domains=some(("slow.test", "other.test")),
    tenants=some(TENANTS),
    classes=some(tuple(MessageClass)),
).filter(lambda match: any(match.model_dump().values()))


@st.composite
def plans(draw: st.DrawFn) -> LanePlan:
    lanes = [
        LaneSettings(name=f"lane{number}", match=match, partitions=partitions, spread=spread)
        for number, match in enumerate(draw(st.lists(MATCHES, max_size=5)))
        for partitions in [draw(st.integers(1, 9))]
        for spread in [draw(st.integers(1, partitions))]
    ]
    partitions = draw(st.integers(1, 9))
    spread = draw(st.integers(1, partitions))
    lanes.append(LaneSettings(name="default", partitions=partitions, spread=spread))
    limits = SiteLimits(
        connections=draw(st.integers(1, 12)), connections_per_minute=draw(st.integers(0, 12))
    )
    return LanePlan(lanes, LimitTable(LimitsSettings(default=limits)))


def places(lanes: LanePlan, provider: str, site: str) -> dict[Place, set[int]]:
    """Every place of a site, over all tenants, classes and many jobs."""
    found: dict[Place, set[int]] = defaultdict(set)
    for tenant, kind, number in product(TENANTS, MessageClass, range(200)):
        one = job(number, site, provider=provider, tenant=tenant, message_class=kind)
        found[lanes.place(one)].add(number)
    return found


@given(plans(), st.sampled_from(PROVIDERS), st.sampled_from(SITES))
def test_no_two_places_of_a_site_share_a_part_of_its_limits(
    lanes: LanePlan, provider: str, site: str
) -> None:
    holders: dict[int, set[tuple[str, int]]] = defaultdict(set)
    counts = set()
    for place in places(lanes, provider, site):
        holders[place.part].add((place.lane, place.partition))
        counts.add(place.parts)
    (parts,) = counts
    assert all(len(partitions) == 1 for partitions in holders.values())
    partitions = [partition for held in holders.values() for partition in held]
    assert len(set(partitions)) == len(partitions)
    assert max(holders) < parts <= lanes.limits(provider, site).divisible_by


@given(plans(), st.sampled_from(PROVIDERS), st.sampled_from(SITES))
def test_a_queue_is_that_of_its_place(lanes: LanePlan, provider: str, site: str) -> None:
    for kind in MessageClass:
        place = lanes.place(job(1, site, provider=provider, message_class=kind))
        assert place.queue == lane_queue(place.lane, place.partition, kind)


@given(plans(), st.sampled_from(PROVIDERS), st.sampled_from(SITES), st.integers(0, 200))
def test_a_job_that_comes_again_stays_where_it_was_but_for_its_queue(
    lanes: LanePlan, provider: str, site: str, number: int
) -> None:
    first = lanes.place(job(number, site, provider=provider))
    for changes in ({"attempt": 1}, {"turn": 7.0}, {"attempt": 3, "turn": 7.0}):
        again = lanes.place(job(number, site, provider=provider, **changes))
        kind = MessageClass.TRANSACTIONAL
        assert again.queue == lane_queue(again.lane, again.partition, kind, again=True)
        assert (again.queue, again.beside) == (first.beside, first.queue)
        assert replace(again, queue=first.queue, beside=first.beside) == first


@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 40))
def test_a_site_lies_in_as_many_partitions_as_it_is_spread_over(
    partitions: int, spread: int, connections: int
) -> None:
    spread = min(spread, partitions)
    lanes = plan(
        {"name": "default", "partitions": partitions, "spread": spread}, connections=connections
    )
    found = places(lanes, "other", "mx.test")
    width = min(spread, connections)
    assert {place.part for place in found} == set(range(width))
    assert {place.parts for place in found} == {width}
    assert len({place.partition for place in found}) == width


def test_every_site_and_its_parts_are_complete_over_lanes_that_share_it() -> None:
    lanes = plan(
        {"name": "otp", "match": {"classes": ["transactional"]}, "partitions": 4, "spread": 2},
        {"name": "bank", "match": {"tenants": ["bank"]}},
        {"name": "default", "spread": 3},
    )
    found = places(lanes, "other", "mx.test")
    by_lane = defaultdict(set)
    for place in found:
        by_lane[place.lane].add(place.part)
    assert by_lane == {"otp": {0, 1}, "bank": {2}, "default": {3, 4, 5}}
    assert {place.parts for place in found} == {6}


def test_a_lane_that_takes_all_of_a_site_leaves_its_limits_whole() -> None:
    lanes = plan({"name": "google", "match": {"providers": ["google"]}})
    assert lanes.place(job(provider="google", site="*.google.com")).parts == 1
    assert lanes.place(job()).parts == 1


def test_the_first_lane_that_matches_wins() -> None:
    lanes = plan(
        {"name": "one", "match": {"tenants": ["bank"], "classes": ["bulk"]}},
        {"name": "two", "match": {"tenants": ["bank", "shop"]}},
        {"name": "three", "match": {"sites": ["mx.test"]}},
    )
    cases = {
        ("bank", MessageClass.BULK): "one",
        ("bank", MessageClass.TRANSACTIONAL): "two",
        ("shop", MessageClass.BULK): "two",
        ("else", MessageClass.BULK): "three",
    }
    found = {case: lanes.place(job(tenant=case[0], message_class=case[1])).lane for case in cases}
    assert found == cases
    assert lanes.place(job(site="else.test")).lane == "default"


def test_mail_of_a_site_that_cannot_be_divided_stays_together() -> None:
    lanes = plan({"name": "otp", "match": {"classes": ["transactional"]}}, connections=1)
    place = lanes.place(job(message_class=MessageClass.TRANSACTIONAL))
    assert (place.lane, place.part, place.parts) == ("default", 0, 1)


def test_a_domain_that_a_lane_or_a_limit_names_is_placed_by_its_name() -> None:
    limits = LimitsSettings.model_validate(
        {"overrides": [{"match": {"domains": ["slow.test"]}, "connections": 1}]}
    )
    lanes = LanePlan(
        check_lanes((LaneSettings(name="vip", match=LaneMatch(domains=("VIP.test",))),)),
        LimitTable(limits),
    )
    assert lanes.domains == {"vip.test", "slow.test"}
    assert lanes.place(job(site="vip.test", destination="10.0.0.1:25")).lane == "vip"
    assert lanes.place(job(site="mx.test", destination="vip.test")).lane == "default"
    assert lanes.limits_of(job(site="slow.test", destination="10.0.0.1:25")).connections == 1
    assert lanes.limits_of(job(site="mx.test", destination="slow.test")).connections == 20


def test_a_plan_without_the_lane_for_the_rest_is_refused() -> None:
    with pytest.raises(ValueError, match="default"):
        LanePlan((LaneSettings(name="a"),), LimitTable(LimitsSettings()))


def test_sites_are_spread_evenly_over_partitions() -> None:
    lanes = plan()
    counts = [0] * 8
    for number in range(8000):
        counts[lanes.place(job(site=f"mx{number}.test")).partition] += 1
    assert max(counts) < 1.2 * 1000


def test_places_are_the_same_in_every_process() -> None:
    program = (
        "from tests.unit.plan.test_lanes import job, plan\n"
        "lanes = plan({'name': 'default', 'spread': 3})\n"
        "print([lanes.place(job(n, f'mx{n}.test')).queue for n in range(50)])"
    )
    here = plan({"name": "default", "spread": 3})
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert outputs == {str([here.place(job(n, f"mx{n}.test")).queue for n in range(50)])}


def test_default_is_always_there_and_last() -> None:
    lanes = check_lanes((LaneSettings(name="default", partitions=3),
                         LaneSettings(name="a", match=LaneMatch(tenants=("t",)))))  # fmt: skip
    assert lane_names(lanes) == ("a", "default")
    assert [lane.partitions for lane in lanes] == [8, 3]
    assert lane_names(check_lanes(())) == ("default",)
