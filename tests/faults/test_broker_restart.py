"""The broker goes, comes back, is alarmed, loses a queue: rows 11, 13, 15, 38 of the matrix."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from shared.broker.topology import ACCEPTED
from tests.support.pipeline import SERVICES
from tests.support.rabbitmq import RabbitNode
from tests.support.rig import Rig, running_rig

pytestmark = [pytest.mark.rabbitmq, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def rig(rabbitmq_node: RabbitNode, tmp_path: Path) -> AsyncIterator[Rig]:
    """A rig of each test's own: what it does to the broker must not reach the next."""
    async with running_rig(tmp_path, rabbitmq_node.new_vhost()) as rig:
        yield rig


async def ctl(node: RabbitNode, *arguments: str) -> None:
    await asyncio.to_thread(node.ctl, *arguments)


async def stop_and_start_app(node: RabbitNode, rig: Rig) -> None:
    await ctl(node, "stop_app")
    try:
        await all_live_and_none_ready(rig)
    finally:
        await ctl(node, "start_app")


async def kill_and_start_node(node: RabbitNode, rig: Rig) -> None:
    node.kill9()
    try:
        await all_live_and_none_ready(rig)
    finally:
        await asyncio.to_thread(node.start)


async def all_live_and_none_ready(rig: Rig) -> None:
    """What an orchestrator sees meanwhile, and what a client hears."""
    for name in SERVICES:
        await rig.pipeline.wait_not_ready(name)
        assert (await rig.pipeline.get(name, "/livez"))[0] == 200
    assert (await rig.send([rig.address()])).code == 451


@pytest.mark.parametrize("outage", [stop_and_start_app, kill_and_start_node])
async def test_a_broker_that_restarts_under_load_loses_nothing(
    rig: Rig, rabbitmq_node: RabbitNode, outage: Callable[[RabbitNode, Rig], Awaitable[None]]
) -> None:
    pids = [rig.pipeline.pid(name) for name in SERVICES]
    receiver = rig.receivers["one.test"]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rig.load([[rig.address()] for _ in range(200)]))
        await receiver.wait_for(20, timeout=30)
        await outage(rabbitmq_node, rig)

    account = await rig.wait_accounted()
    for name in SERVICES:
        await rig.pipeline.wait_ready(name)
    assert account.lost == account.unexpected == set()
    # One from a publish whose confirm was lost at each hop, and one from the client's repeat.
    assert account.most_copies() <= 4
    assert [rig.pipeline.pid(name) for name in SERVICES] == pids


@pytest_asyncio.fixture(loop_scope="module")
async def patient_rig(rabbitmq_node: RabbitNode, tmp_path: Path) -> AsyncIterator[Rig]:
    """Its delivery may be paused for seconds without losing its partitions.

    A worker that loses them gives back what it holds by publishing it, and an alarm keeps that.
    """
    settings = {"delivery": {"heartbeat": "5s"}}
    async with running_rig(tmp_path, rabbitmq_node.new_vhost(), settings) as rig:
        yield rig


async def test_a_memory_alarm_stops_input_and_lets_consumers_drain(
    patient_rig: Rig, rabbitmq_node: RabbitNode
) -> None:
    rig = patient_rig
    queued = [rig.address() for _ in range(20)]
    rig.pipeline.pause("delivery")
    for recipient in queued:
        await rig.insist([recipient])
    await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0")
    try:
        # The broker tells a connection that it is blocked when it publishes for the first time.
        under_way = asyncio.create_task(rig.send([rig.address()]))
        assert "blocked" in await rig.pipeline.wait_not_ready("ingress")
        refused = await rig.send([rig.address()])
        assert (refused.code, refused.text[:5]) == (452, "4.3.1")
        rig.pipeline.resume("delivery")
        await rig.receivers["one.test"].wait_for(len(queued), timeout=30)
    finally:
        await ctl(rabbitmq_node, "set_vm_memory_high_watermark", "0.4")

    await rig.pipeline.wait_ready("ingress")
    assert (await under_way).code in {250, 451}
    await rig.insist([rig.address()])
    account = await rig.wait_accounted()
    assert account.lost == account.unexpected == set()
    assert account.most_copies() <= 2


async def test_a_deleted_queue_is_answered_451_and_declared_again(
    rig: Rig, rabbitmq_node: RabbitNode
) -> None:
    vhost = urlsplit(rig.pipeline.broker_url).path[1:]
    rig.pipeline.pause("router")  # its consumer would declare the queue again at once
    await ctl(rabbitmq_node, "delete_queue", "--vhost", vhost, ACCEPTED)

    answer = await rig.send([rig.address()])
    assert (answer.code, answer.text[:5]) == (451, "4.3.0")
    rig.pipeline.resume("router")
    await rig.insist([rig.address()])

    account = await rig.wait_accounted()
    assert account.lost == account.unexpected == set()
    assert account.most_copies() == 1
    refused = (await rig.pipeline.metrics("ingress"))[
        'postroad_refused_messages_total{reason="ours"}'
    ]
    assert refused >= 1
