"""Which queues each service declares."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from shared.broker.connect import connect_broker
from shared.broker.interface import Broker
from shared.broker.topology import ACCEPTED, DUE, LANE_PREFIX, PARKED, lane_queue
from shared.settings.model import Settings


@contextlib.asynccontextmanager
async def connected(
    folder: Path, name: str, lanes: Collection[str] | None = None
) -> AsyncIterator[Broker]:
    settings = Settings.model_validate(
        {
            "broker": {"url": f"embedded://{folder}"},
            "lanes": [
                {"name": "big", "match": {"domains": ["big.example"]}, "partitions": 2},
                {"name": "default", "partitions": 1},
            ],
        }
    )
    broker = connect_broker(settings, name, lanes)
    await broker.start()
    yield broker
    await broker.close()


async def declared(folder: Path, name: str, lanes: Collection[str] | None = None) -> set[str]:
    async with connected(folder, name, lanes) as broker:
        return set(await broker.depths())


async def test_ingress_declares_where_accepted_mail_goes_and_nothing_else(tmp_path: Path) -> None:
    assert await declared(tmp_path, "ingress") == {ACCEPTED, PARKED}


async def test_a_service_declares_the_lanes_it_is_for_or_all(tmp_path: Path) -> None:
    everything = await declared(tmp_path, "router")
    lanes = {queue for queue in everything if queue.startswith(LANE_PREFIX)}
    assert lanes >= {lane_queue("big", 1, "bulk"), lane_queue("default", 0, "transactional")}
    only = await declared(tmp_path, "delivery", ["default"])
    assert only == everything - {queue for queue in lanes if ".big." in queue}
    assert only >= {DUE, ACCEPTED, PARKED}
