"""One service alone on a full queue: the CPU that it takes a message, in the middle of its way.

The queue is filled before the service starts. What counts lies between two marks, so that neither
start nor end matters, and what the service has read ahead is the same at both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bench.brokers import Place
from tests.bench.cpu import tree_seconds
from tests.bench.figures import BenchError, Mark, Stretch, check_once
from tests.bench.load import Sink
from tests.bench.log_tail import LogTail
from tests.bench.prefill import accept, queue_jobs
from tests.support.pipeline import Pipeline

MARGIN = 0.05
"""Messages before the first mark, and after the last one, as a part of those that count."""
POLL = 0.005
TIMEOUT = 240.0


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of work of one service: `event` is the one it logs for each message it is done with.

    `wanted` is CPU milliseconds a message, at most. `settings` differ from the defaults.
    """

    key: str
    title: str
    service: str
    event: str
    octets: int
    messages: int
    wanted: float
    settings: Mapping[str, Any] = field(default_factory=dict)


def addresses(count: int) -> list[str]:
    """One address for each message."""
    return [f"user.{number}@sink.example" for number in range(count)]


async def drain(place: Place, case: Case, sink: Sink, messages: int) -> Stretch:
    """Let the service of `case` work off `messages`, besides the margins. Raises `BenchError`."""
    pipeline = Pipeline(place.folder, place.url, {"*": sink.port}, case.settings)
    margin = max(1, round(messages * MARGIN))
    total = messages + 2 * margin
    await _fill(pipeline, case, sink, total)
    came = sink.count
    tail = LogTail(place.folder / f"{case.service}.log", case.event)

    def count() -> int:
        sink.poll()
        return tail.count()

    try:
        # Beside delivery runs the router, through which jobs come again that were given back.
        await pipeline.start(["router", *(["delivery"] if case.service == "delivery" else [])])
        mark = _marker(pipeline.pid(case.service), place, count)
        stops = (margin, margin + messages, total)
        first, last, _ = [await _reach(count, stop, mark) for stop in stops]
        if case.service == "delivery":
            sink.wait_for(came + total, TIMEOUT)
        await _settled(pipeline, case.service)
        await pipeline.stop()
    finally:
        tail.close()
        await pipeline.abort()
    _check(tail, total, sink.count - came if case.service == "delivery" else total)
    return Stretch.between(first, last)


async def _fill(pipeline: Pipeline, case: Case, sink: Sink, total: int) -> None:
    if case.service == "router":
        await accept(pipeline.config, addresses(total), case.octets)
    else:
        hosts = f"127.0.0.1:{sink.port}"
        targets = [(address, hosts) for address in addresses(total)]
        await queue_jobs(pipeline.config, targets, case.octets)


def _marker(pid: int, place: Place, count: Callable[[], int]) -> Callable[[], Mark]:
    def mark() -> Mark:
        done = count()
        used = {"service": tree_seconds([pid]), "broker": tree_seconds(place.broker_pids)}
        return Mark(time.monotonic(), done, used)

    return mark


async def _reach(count: Callable[[], int], stop: int, mark: Callable[[], Mark]) -> Mark:
    deadline = time.monotonic() + TIMEOUT
    while count() < stop:
        if time.monotonic() > deadline:
            raise BenchError(f"{count()} of {stop} messages within {TIMEOUT:.0f} s")
        await asyncio.sleep(POLL)
    return mark()


async def _settled(pipeline: Pipeline, service: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while (await pipeline.metrics(service))["postroad_in_flight_jobs"]:
        if time.monotonic() > deadline:
            raise BenchError(f"{service} still holds messages")
        await asyncio.sleep(POLL)


def _check(tail: LogTail, total: int, came: int) -> None:
    ids = tail.ids()
    check_once(list(ids), ids)
    if len(ids) != total or came != total:
        raise BenchError(f"{len(ids)} of {total} messages in the log, {came} at the sink")
