"""A dead or slow site with much mail waiting: what other sites, and memory, notice of it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from shared.broker.topology import WAIT_STEPS_MS
from tests.bench.brokers import Brokers
from tests.bench.cpu import resident_bytes
from tests.bench.figures import delays, growth, percentile
from tests.bench.page import write_section
from tests.bench.steady import send_steadily
from tests.bench.tables import machine_line, table, verdict
from tests.bench.trouble import (
    HEALTHY,
    OCTETS,
    SLOW_RATE,
    TROUBLED,
    Trouble,
    make_pipeline,
    queue_up,
    stop,
    troubled_hosts,
    worked_through,
)
from tests.bench.world import World, site_addresses
from tests.support.pipeline import Pipeline

WANTED_PERCENT = 20.0
MB = 1 << 20
RECEIPT_TIMEOUT = 90.0
ORDERS = (
    (Trouble.NONE, Trouble.REFUSED, Trouble.SILENT, Trouble.SLOW, Trouble.NONE),
    (Trouble.REFUSED, Trouble.SILENT, Trouble.SLOW, Trouble.NONE),
)
"""Of the first round and the second: the first one tells by how much two equal runs differ."""
STATES = {1: "at start", 2: "comes round"}
"""What the backlog does in each round."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much: messages that wait, and a load of `rate` a second for so many seconds.

    All that waits for its retry is due after `retry` seconds, so within the load, and all that
    waits for its turn after `turn`.
    """

    waiting: int
    rate: int
    warm_up: int
    seconds: int
    retry: int
    turn: float


FULL = Size(100_000, 100, 2, 36, 30, WAIT_STEPS_MS[-1] / 1000)
QUICK = Size(1_000, 50, 1, 3, 2, 0.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """One run: seconds of each message to a healthy site, resident MB of services at its end.

    `troubled_rate` is messages a second that the site in trouble received meanwhile.
    """

    broker: str
    round: int
    trouble: Trouble
    seconds: Sequence[float]
    megabytes: Mapping[str, float]
    troubled_rate: float


def measure(brokers: Brokers, size: Size) -> list[Reading]:
    """Every trouble on every broker, twice. Raises `BenchError`."""
    return [reading for broker in brokers.names for reading in _on(brokers, broker, size)]


def _on(brokers: Brokers, broker: str, size: Size) -> list[Reading]:
    readings: list[Reading] = []
    with ExitStack() as stack, asyncio.Runner() as runner:
        world = stack.enter_context(World(site_addresses(HEALTHY + 1), 0.0))
        pipelines: dict[Trouble, Pipeline] = {}
        opened: dict[Trouble, float] = {}
        for trouble in Trouble:
            place = stack.enter_context(brokers.place(broker))
            hosts = stack.enter_context(troubled_hosts(trouble, world))
            pipelines[trouble] = make_pipeline(place, trouble, hosts, world, f"{size.retry}s")
            if trouble is not Trouble.NONE:
                runner.run(queue_up(pipelines[trouble], size.waiting))
        for number, order in enumerate(ORDERS, start=1):
            for trouble in order:
                run = f"{trouble.name}-{number}-{len(readings)}"
                began = opened.setdefault(trouble, time.monotonic())
                if number > 1 and trouble is Trouble.SLOW:
                    time.sleep(max(0.0, began + size.turn - time.monotonic()))
                measured = runner.run(
                    _measure(pipelines[trouble], world, size, run, once=number > 1)
                )
                readings.append(Reading(broker, number, trouble, *measured))
                _show(readings[-1])
    return readings


async def _measure(
    pipeline: Pipeline, world: World, size: Size, run: str, *, once: bool
) -> tuple[Sequence[float], Mapping[str, float], float]:
    total = size.rate * (size.warm_up + size.seconds)
    addresses = [f"user.{run}.{n}@s{n % HEALTHY}.example".lower() for n in range(total)]
    try:
        await pipeline.start()
        if once:
            await worked_through(pipeline)
        began = time.monotonic()
        accepted = await send_steadily(pipeline.smtp_port, addresses, size.rate, OCTETS)
        ended = time.monotonic()
        times = await _received(world, addresses)
        memory = {name: resident_bytes(pipeline.pid(name)) / MB for name in ("router", "delivery")}
        await stop(pipeline)
    finally:
        await pipeline.abort()
    seconds = delays({address: accepted[address] for address in addresses}, times)
    troubled = sum(
        began <= at <= ended
        for address, all_ in times.items()
        if address.endswith(f"@{TROUBLED}")
        for at in all_
    )
    return seconds[size.rate * size.warm_up :], memory, troubled / (ended - began)


async def _received(world: World, addresses: Sequence[str]) -> Mapping[str, Sequence[float]]:
    """What came, once everything has come, or has had the time to."""
    deadline = time.monotonic() + RECEIPT_TIMEOUT
    while True:
        times = world.report().times
        if all(address in times for address in addresses) or time.monotonic() > deadline:
            return times
        await asyncio.sleep(0.5)


def _show(reading: Reading) -> None:
    memory = ", ".join(f"{name} {value:.0f} MB" for name, value in reading.megabytes.items())
    print(
        f"{reading.broker:22} {STATES[reading.round]:11} {reading.trouble:26}"
        f" p50 {percentile(reading.seconds, 50) * 1000:7.1f} ms"
        f" p99 {percentile(reading.seconds, 99) * 1000:7.1f} ms  {memory}",
        flush=True,
    )


def delay_table(readings: Sequence[Reading]) -> str:
    """Delays of the healthy sites and memory, by trouble and round, against those without."""
    head = ["broker", "site in trouble", "backlog", "p50 ms", "p99 ms", "p99 grew by", "wanted", "",
            "router MB", "delivery MB", "sent to it"]  # fmt: skip
    return table(head, [_row(reading, readings) for reading in readings])


def _row(reading: Reading, readings: Sequence[Reading]) -> list[str]:
    p99 = percentile(reading.seconds, 99)
    base = _base(reading, readings)
    grew = growth(p99, base) if base else 0.0
    troubled = reading.trouble is not Trouble.NONE
    judged = troubled and reading.round > 1
    return [
        reading.broker,
        reading.trouble.value,
        STATES[reading.round],
        f"{percentile(reading.seconds, 50) * 1000:.1f}",
        f"{p99 * 1000:.1f}",
        f"{grew:+.0f} %" if base else "-",
        f"under {WANTED_PERCENT:.0f} %" if judged else "-",
        verdict(grew < WANTED_PERCENT) if judged else "-",
        *(f"{reading.megabytes[name]:.0f}" for name in ("router", "delivery")),
        f"{reading.troubled_rate:.1f}/s" if troubled else "-",
    ]


def _base(reading: Reading, readings: Sequence[Reading]) -> float:
    """The p99 without trouble in the same round; for such a run the others', 0 for the first."""
    others = [
        percentile(other.seconds, 99)
        for other in readings
        if (other.broker, other.round, other.trouble)
        == (reading.broker, reading.round, Trouble.NONE)
        and other is not reading
    ]
    if reading.trouble is Trouble.NONE and others and _comes_first(reading, readings):
        return 0.0
    return statistics.mean(others) if others else 0.0


def _comes_first(reading: Reading, readings: Sequence[Reading]) -> bool:
    return next(one for one in readings if one.broker == reading.broker) is reading


TEXT = """## A dead or a slow site

{machine}
{rate} messages a second of {octets} octets to {healthy} healthy sites, while {waiting:,} wait for
one more site:

{table}
### How it is measured

- "At start": before the first run, the {waiting:,} messages are accepted and routed, with delivery
  not running: they lie in the queue of their partition for jobs that come first, which healthy
  sites share. Then all services start, and the load begins at once; {warm_up} s later the
  measurement, for {seconds} s. Healthy sites in that partition wait until each of the {waiting:,}
  was looked at once: a queue that nobody served is served in order.
- "Comes round": the services stop, everything that waits stays, and they start again. When all
  was looked at once, the load begins, and {warm_up} s later the measurement. From then on messages
  of dead sites only go round: retry step, router, delivery. Each retry comes after {retry} s here,
  so all {waiting:,} are due within the measurement: they wait in `postroad.due.crowd`, and the
  router takes 100 of them a second while the load lasts. By default such bursts are 1 minute to 4
  hours apart. Messages of the slow site come round once in 10 minutes until
  their turn is near; that time is waited for before its run.
- Runs alternate. p99 is compared with the one of the runs without trouble in the same state, which
  have a pipeline of their own where nothing waits. Two of these in the first state tell how much
  two equal runs differ.
- A delay runs from the 250 that the client read until the receiver has read the final dot. A
  message is sent at its time whatever became of those before.
- Defaults but for the routes and the retries; the slow site has `messages_per_second: {slow}`.
  "Sent to it" is what it received a second meanwhile. "Dead: refuses" is a port on which nobody
  listens; "dead: never answers" a socket with a full queue, to which every connection waits.
- Memory is what router and delivery have resident at the end of the run.
- Each message to a healthy site came once.
"""


def write(path: Path, readings: Sequence[Reading], machine: Mapping[str, str]) -> None:
    """Renew the section, after a run of full size."""
    body = TEXT.format(
        machine=machine_line(machine),
        table=delay_table(readings),
        rate=FULL.rate,
        octets=OCTETS,
        healthy=HEALTHY,
        waiting=FULL.waiting,
        warm_up=FULL.warm_up,
        seconds=FULL.seconds,
        slow=SLOW_RATE,
        retry=FULL.retry,
    )
    write_section(path, "dead-site", body)
