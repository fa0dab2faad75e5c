"""Pipelines for the benchmark of dead and slow sites: one site in trouble, many healthy ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from shared.broker.topology import ACCEPTED, lane_queue
from shared.messages.model import MessageClass
from shared.settings.load import load_settings
from shared.settings.model import DeliverySettings
from tests.bench.brokers import Place
from tests.bench.figures import BenchError
from tests.bench.prefill import accept, broker_of
from tests.bench.world import World, black_hole
from tests.support.pipeline import SERVICES, Pipeline, free_port

HEALTHY = 50
SLOW_RATE = 2
TROUBLED = "trouble.example"
OCTETS = 1024
ROUTE_TIMEOUT = 300.0
ONCE_TIMEOUT = 600.0
STOP_SECONDS = 5.0
"""For a drain; a connection that a black hole swallows would hold it up much longer."""


class Trouble(StrEnum):
    """What is wrong with the one site."""

    NONE = "none"
    REFUSED = "dead: refuses connections"
    SILENT = "dead: never answers"
    SLOW = f"slow: {SLOW_RATE} messages/s"


@contextmanager
def troubled_hosts(trouble: Trouble, world: World) -> Iterator[str]:
    """The next hop of the site in trouble."""
    if trouble is Trouble.REFUSED:
        yield f"127.2.0.1:{free_port()}"
    elif trouble is Trouble.SILENT:
        with black_hole("127.3.0.1") as port:
            yield f"127.3.0.1:{port}"
    else:
        yield world.hosts(HEALTHY)


def make_pipeline(place: Place, trouble: Trouble, hosts: str, world: World, retry: str) -> Pipeline:
    """A pipeline with a static route to each healthy site and to `hosts`.

    Each retry comes after `retry`; else with defaults.
    """
    routes = [
        {"domains": [f"s{number}.example"], "hosts": [world.hosts(number)]}
        for number in range(HEALTHY)
    ]
    routes.append({"domains": [TROUBLED], "hosts": [hosts]})
    delivery = DeliverySettings().model_dump(mode="json", include={"max_age"})
    delivery["retry_schedule"] = [retry]
    settings: dict[str, Any] = {"router": {"routes": routes}, "delivery": delivery}
    if trouble is Trouble.SLOW:
        slow = {"match": {"domains": [TROUBLED]}, "messages_per_second": SLOW_RATE}
        settings["limits"] = {"overrides": [slow]}
    return Pipeline(place.folder, place.url, {}, settings)


async def queue_up(pipeline: Pipeline, waiting: int) -> None:
    """Let so much mail for the site in trouble wait where the router puts it. Stops the router."""
    addresses = (f"waiting.{number}@{TROUBLED}" for number in range(waiting))
    await accept(pipeline.config, addresses, OCTETS)
    try:
        await pipeline.start(["router"])
        async with broker_of(load_settings(pipeline.config)) as broker:
            async with asyncio.timeout(ROUTE_TIMEOUT):
                while (await broker.depths())[ACCEPTED]:
                    await asyncio.sleep(0.5)
        await pipeline.stop()
    except TimeoutError:
        raise BenchError(f"{waiting} messages not routed in {ROUTE_TIMEOUT:.0f} s") from None
    finally:
        await pipeline.abort()


async def worked_through(pipeline: Pipeline) -> None:
    """Return when nothing waits any more that has not come to delivery once."""
    settings = load_settings(pipeline.config)
    names = [
        lane_queue(lane.name, number, kind.value)
        for lane in settings.lanes
        for number in range(lane.partitions)
        for kind in MessageClass
    ]
    try:
        async with broker_of(settings) as broker, asyncio.timeout(ONCE_TIMEOUT):
            while True:
                depths = await broker.depths()
                if not any(depths[name] for name in names):
                    return
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise BenchError(f"not worked through once in {ONCE_TIMEOUT:.0f} s") from None


async def stop(pipeline: Pipeline) -> None:
    """Drain what drains soon, kill the rest: everything it holds is in a queue."""
    for name in SERVICES:
        pipeline.terminate(name)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            for name in SERVICES:
                await pipeline.wait_drained(name)
    await pipeline.abort()
