"""One worker keeps the limits of every site, and lets none stand in the way of another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.delivery.crowds import MANY
from shared.broker.topology import CROWD, DUE, lane_queue
from shared.messages.model import DeliveryJob, MailExchanger, MessageClass
from shared.plan.limits import Limits
from shared.settings.shaping import LimitsSettings
from tests.support.counting import CountingReceiver
from tests.support.pipeline import eventually, free_port
from tests.support.rabbitmq import ForeignServer, RabbitNode
from tests.support.shaped import Shaped, shaped

CROWD_JOBS = 2000


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "embedded":
        yield f"embedded://{tmp_path}/broker"
    else:
        server: RabbitNode | ForeignServer = request.getfixturevalue("rabbitmq")
        yield server.new_vhost()


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_receiver_that_counts_sees_no_limit_exceeded(tmp_path: Path, url: str) -> None:
    limits = {
        "connections": 3,
        "messages_per_connection": 7,
        "recipients_per_transaction": 2,
        "messages_per_second": 40,
        "connections_per_minute": 60,
    }
    throttled = metric("postroad_throttled_seconds_total", provider="other")
    async with (
        CountingReceiver(delay=0.02) as receiver,
        shaped(tmp_path, url, limits={"default": limits}) as s,
    ):
        await s.give([s.job("a.test", receiver, recipients=n % 5 + 1) for n in range(100)])
        await receiver.wait_for(300)
        assert receiver.violations(Limits(**limits)) == []
        assert receiver.most_at_once() == 3
        assert len(set(receiver.received)) == len(receiver.received)
        assert metric("postroad_throttled_seconds_total", provider="other") > throttled + 1


async def test_connections_a_minute_are_all_that_a_receiver_sees(tmp_path: Path, url: str) -> None:
    limits = {"connections_per_minute": 4, "messages_per_connection": 2}
    async with (
        CountingReceiver() as receiver,
        shaped(tmp_path, url, limits={"default": limits}) as s,
    ):
        await s.give([s.job("a.test", receiver) for _ in range(30)])
        await receiver.wait_for(8)
        await s.give([s.job("b.test", receiver)])
        await receiver.wait_for(9)
        assert len(receiver.connections) == 5
        assert receiver.most_a_minute() == 5


async def test_limits_change_without_a_restart(tmp_path: Path, url: str) -> None:
    slow = {"connections": 1, "messages_per_second": 1}
    async with (
        CountingReceiver() as receiver,
        shaped(tmp_path, url, limits={"default": slow}) as s,
    ):
        await s.give([s.job("a.test", receiver) for _ in range(20)])
        await receiver.wait_for(2)
        assert receiver.violations(Limits(connections=1, messages_per_second=1)) == []
        s.service.set_limits(LimitsSettings())
        await receiver.wait_for(20)
        assert receiver.burst(1) > 5


async def test_a_slow_site_holds_up_nobody_and_little_is_held(tmp_path: Path, url: str) -> None:
    limits = {
        "overrides": [{"match": {"sites": ["slow.test"]}, "messages_per_second": 2}],
    }
    async with (
        CountingReceiver() as slow,
        CountingReceiver() as fast,
        shaped(tmp_path, url, limits=limits) as s,
    ):
        await s.give([s.job("slow.test", slow) for _ in range(5000)])
        most = 0.0
        jobs = [s.job("fast.test", fast) for _ in range(200)]
        await s.give(jobs)
        waiting = asyncio.ensure_future(fast.wait_for(200))
        while not waiting.done():
            most = max(most, metric("postroad_in_flight_jobs"))
            await asyncio.wait([waiting], timeout=0.02)
        await waiting
        assert len(slow.received) < 2000
        assert slow.violations(Limits(messages_per_second=2)) == []
        assert most <= 2 * 500
        assert metric("postroad_given_back_jobs_total", reason="limit") > 1000
        assert all(job.attempt == 0 for job in s.returned)


async def test_a_dead_site_holds_up_nobody(tmp_path: Path, url: str) -> None:
    async with (
        CountingReceiver(silent=True) as dead,
        CountingReceiver() as fast,
        shaped(tmp_path, url) as s,
    ):
        await s.give([s.job("dead.test", dead) for _ in range(3000)])
        await s.give([s.job("fast.test", fast) for _ in range(200)])
        await fast.wait_for(200)
        assert dead.most_at_once() <= 20
        assert dead.received == []


async def test_transactional_jobs_go_before_bulk(tmp_path: Path, url: str) -> None:
    limits = {"connections": 1, "messages_per_second": 20}
    async with (
        CountingReceiver() as receiver,
        shaped(tmp_path, url, limits={"default": limits}) as s,
    ):
        await s.give([s.job("a.test", receiver) for _ in range(200)])
        await receiver.wait_for(3)
        urgent = s.job("a.test", receiver, message_class=MessageClass.TRANSACTIONAL)
        await s.give([urgent])
        before = len(receiver.received)
        async with asyncio.timeout(20):
            while urgent.recipients[0].address not in receiver.received:
                await receiver.wait_for(len(receiver.received) + 1)
        assert receiver.received.index(urgent.recipients[0].address) < before + 20


async def test_a_crowd_that_comes_again_holds_up_no_job_that_comes_first(
    tmp_path: Path, url: str
) -> None:
    crowd_before = metric("postroad_crowd_jobs_total")
    nobody = (MailExchanger(10, "mx.dead.test", free_port()),)

    def backlog(s: Shaped) -> list[DeliveryJob]:
        crowd = [
            s.job("dead.test", receiver, exchangers=nobody, attempt=1) for _ in range(CROWD_JOBS)
        ]
        return [*crowd, s.job("a.test", receiver)]

    async with CountingReceiver() as receiver, shaped(tmp_path, url, backlog) as s:
        await receiver.wait_for(1)
        depths = await s.broker.depths()
        assert depths[lane_queue("default", 0, "bulk", again=True)] > CROWD_JOBS / 2

        async def all_returned() -> bool:
            return len(s.ways) == CROWD_JOBS

        await eventually(all_returned, "the crowd is sent round", 60)
        ways = Counter(s.ways.values())
        assert MANY <= ways[DUE] < ways[CROWD]
        assert metric("postroad_crowd_jobs_total") >= ways[CROWD] + crowd_before
