"""A slow world: many sites, each transaction takes long; how much more do more workers send?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.settings.model import DeliverySettings
from tests.bench.brokers import Brokers, Place
from tests.bench.cpu import tree_seconds
from tests.bench.figures import BenchError, Mark, Stretch, check_once
from tests.bench.page import write_section
from tests.bench.prefill import queue_jobs
from tests.bench.tables import machine_line, table, verdict
from tests.bench.world import World, site_addresses
from tests.support.pipeline import Pipeline

SITES = 500
SECONDS_EACH = 0.2
SITE_CONNECTIONS = 2
AT_A_TIME = 100
"""Transactions that one worker has under way: what bounds it."""
BOUND = AT_A_TIME / SECONDS_EACH
OCTETS = 1024
WORKERS = (1, 2, 3)
WANTED = 2.7
RUN_SECONDS, QUICK_SECONDS = 14, 4
SETTLE_SECONDS = 6.0
"""For the workers to know each other and to share the partitions, before there is mail."""
FIRST, LAST = 0.2, 0.6
"""Parts of the messages between which the rate is taken: before any partition is empty."""
TIMEOUT = 180.0


@dataclass(frozen=True, slots=True)
class Speed:
    """What so many workers did. `most` is the most connections that any site had."""

    broker: str
    workers: int
    stretch: Stretch
    most: int


def bound_by() -> str:
    """The setting of a worker that bounds it here."""
    has_own = "max_connections" in DeliverySettings.model_fields
    return "max_connections" if has_own else "prefetch"


def measure(brokers: Brokers, quick: bool) -> list[Speed]:
    """Every number of workers on every broker. Raises `BenchError`."""
    speeds = []
    for broker in brokers.names:
        for workers in WORKERS:
            seconds = QUICK_SECONDS if quick else RUN_SECONDS
            with brokers.place(broker) as place, World(site_addresses(SITES), SECONDS_EACH) as all_:
                messages = round(BOUND * seconds * workers)
                speed = asyncio.run(_run(place, all_, workers, messages))
            speeds.append(speed)
            print(
                f"{broker:22} {workers} workers {speed.stretch.rate:7,.0f} messages/s,"
                f" {speed.stretch.cores:.2f} cores",
                flush=True,
            )
    return speeds


def _worker(place: Place, world: World, number: int) -> Pipeline:
    """A delivery worker: a configuration of its own for its port, else the same as the others."""
    routes = [
        {"domains": [f"s{site}.example"], "hosts": [world.hosts(site)]} for site in range(SITES)
    ]
    settings: dict[str, Any] = {
        "delivery": {bound_by(): AT_A_TIME},
        "router": {"routes": routes},
        "limits": {"default": {"connections": SITE_CONNECTIONS}},
        "content_store": {"url": f"file://{place.folder}/content"},
    }
    return Pipeline(place.folder / f"worker-{number}", place.url, {"*": world.port}, settings)


async def _run(place: Place, world: World, workers: int, messages: int) -> Speed:
    pipelines = [_worker(place, world, number) for number in range(workers)]
    targets = {
        f"user.{number}@s{number % SITES}.example": world.hosts(number % SITES)
        for number in range(messages)
    }
    async with AsyncExitStack() as stack:
        for pipeline in pipelines:
            stack.push_async_callback(pipeline.abort)
            # Through the router come again jobs that a worker gives back.
            beside = ["router"] if pipeline is pipelines[0] else []
            await pipeline.start([*beside, "delivery"])
        await asyncio.sleep(SETTLE_SECONDS)
        await queue_jobs(pipelines[0].config, targets.items(), OCTETS)
        pids = [pipeline.pid("delivery") for pipeline in pipelines]
        mark = _marker(pids, place, world)
        first = await _reach(world, round(messages * FIRST), mark)
        if first.done > messages * (FIRST + LAST) / 2:
            raise BenchError(f"{first.done} of {messages} messages had gone when all were queued: "
                             f"delivery.{bound_by()} does not bound a worker")  # fmt: skip
        last = await _reach(world, round(messages * LAST), mark)
        await _reach(world, messages, mark)
        await asyncio.sleep(2 * SECONDS_EACH)  # for the last replies, and what must not come
        report = world.report()
        check_once(targets, {address: len(times) for address, times in report.times.items()})
        for pipeline in pipelines:
            await pipeline.stop()
    return Speed(place.broker, workers, Stretch.between(first, last), report.most)


def _marker(pids: Sequence[int], place: Place, world: World) -> Callable[[], Mark]:
    def mark() -> Mark:
        used = {
            "workers": tree_seconds(pids),
            "broker": tree_seconds(place.broker_pids),
            "receiver": tree_seconds([world.pid]),
        }
        return Mark(time.monotonic(), world.count(), used)

    return mark


async def _reach(world: World, goal: int, mark: Callable[[], Mark]) -> Mark:
    deadline = time.monotonic() + TIMEOUT
    while (count := world.count()) < goal:
        if time.monotonic() > deadline:
            raise BenchError(f"{count} of {goal} messages within {TIMEOUT:.0f} s")
        await asyncio.sleep(0.02)
    return mark()


def speed_table(speeds: Sequence[Speed]) -> str:
    """Messages a second by workers, and as a multiple of one worker's."""
    single = {speed.broker: speed.stretch.rate for speed in speeds if speed.workers == 1}
    head = ["broker", "workers", "messages/s", "to one", "wanted", "", "worker's CPU ms",
            "cores in use", "connections of a site"]  # fmt: skip
    return table(head, [_row(speed, single[speed.broker]) for speed in speeds])


def _row(speed: Speed, single: float) -> list[str]:
    stretch, times = speed.stretch, speed.stretch.rate / single
    last = speed.workers == WORKERS[-1]
    return [
        speed.broker,
        str(speed.workers),
        f"{stretch.rate:,.0f}",
        f"{times:.2f}",
        f"{WANTED}" if last else "-",
        verdict(times >= WANTED) if last else "-",
        f"{stretch.cpu_ms('workers'):.3f}",
        f"{stretch.cores:.2f}",
        f"{speed.most}",
    ]


TEXT = """## A slow world

{machine}
{sites} sites, each transaction takes {delay:.0f} ms, {octets} octets a message, at most
{connections} connections to a site (for all workers together):

{table}
### How it is measured

- What bounds a worker here is `delivery.{bound}: {at_a_time}`, {at_a_time} transactions at a time,
  so {rate:,.0f} messages a second. The world would take {world:,.0f}. Latency is the bottleneck,
  not CPU: otherwise two cores could not show what more workers add. "Cores in use" says that
  there was CPU left; it is the CPU of workers, broker and receivers.
- Each site is an address of loopback, served by one process (`tests/bench/receiver.py`) that
  answers each final dot after {delay:.0f} ms and everything else at once.
- The workers start first, and share the partitions of the default lane. Then jobs for all sites
  are queued, {seconds} s of work, site after site in turn. The rate is taken between the moment
  when all are queued and {first:.0%} have come, and the moment when {last:.0%} have come.
- In the end each message had come once. "Connections of a site" is the most that any had.
"""


def write(path: Path, speeds: Sequence[Speed], machine: Mapping[str, str]) -> None:
    """Renew the section."""
    body = TEXT.format(
        machine=machine_line(machine),
        sites=SITES,
        delay=SECONDS_EACH * 1000,
        octets=OCTETS,
        connections=SITE_CONNECTIONS,
        table=speed_table(speeds),
        bound=bound_by(),
        at_a_time=AT_A_TIME,
        rate=BOUND,
        world=SITES * SITE_CONNECTIONS / SECONDS_EACH,
        seconds=RUN_SECONDS,
        first=FIRST,
        last=LAST,
    )
    write_section(path, "slow-world", body)
