"""`python -m tests.bench`: how fast postroad is, beside Postfix and other measures, in one run.

make bench                            everything but memory; writes docs/benchmarks.md
make bench ARGS="throughput"          one part; writes its section. Parts: throughput, services,
                                      accept, slow-world, dead-site, scheduler, metrics, memory
make bench ARGS="services --quick"    a smoke run with tiny sizes; prints only
make bench ARGS="--only embedded"     the embedded broker only (and Postfix); prints only
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import (
    accept,
    dead_site,
    memory,
    metrics_part,
    scheduler_part,
    services,
    slow_world,
    throughput,
)
from tests.bench.brokers import start_brokers
from tests.bench.disk import bench_folder
from tests.bench.figures import BenchError
from tests.bench.load import SCENARIOS, Sink
from tests.bench.machine import PLAIN, describe_machine
from tests.bench.page import write_memory, write_throughput
from tests.bench.report import machine_table, split_table, throughput_table
from tests.bench.systems import SYSTEMS
from tests.support.compiled import plain_python, use_compiled
from tests.support.postfix import PostfixMissing, install_postfix
from tests.support.rabbitmq import RabbitMqMissing

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
QUICK_MESSAGES = 500
MEMORY_MESSAGES = 100_000
METRICS_PAIRS, METRICS_MESSAGES = 9, 8_000
"""Many short runs: what is looked for is a hundredth."""


@dataclass(frozen=True, slots=True)
class Place:
    """What every part of one call shares. `page` is None when nothing is to be written."""

    folder: Path
    sink: Sink
    machine: dict[str, str]
    page: Path | None


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", nargs="?", choices=["all", *PARTS], default="all")
    parser.add_argument("--only", choices=[*SYSTEMS], help="one system besides Postfix")
    parser.add_argument("--scenario", choices=[s.key for s in SCENARIOS], help="one load")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each system and load")
    parser.add_argument("--messages", type=int, help="messages a run instead of the load's own")
    parser.add_argument("--quick", action="store_true", help="a smoke run; prints only")
    parser.add_argument(
        "--folder", type=Path, default="/var/tmp", help="where queues lie: a real disk"
    )
    return parser.parse_args(arguments)


def _throughput(options: argparse.Namespace, place: Place) -> None:
    runs = throughput.measure_all(
        place.folder,
        place.sink,
        1 if options.quick else options.pairs,
        only=options.only,
        scenario=options.scenario,
        messages=options.messages or (QUICK_MESSAGES if options.quick else None),
    )
    print(throughput_table(runs), split_table(runs), sep="\n")
    if place.page:
        write_throughput(place.page, runs, place.machine)


def _services(options: argparse.Namespace, place: Place) -> None:
    rounds = 1 if options.quick else options.pairs
    with start_brokers(place.folder, options.only) as brokers:
        runs, clients = services.measure(brokers, place.sink, rounds, options.quick)
    print(services.services_table(runs, clients), services.clients_table(clients), sep="\n")
    if place.page:
        services.write(place.page, runs, clients, rounds, place.machine)


def _accept(options: argparse.Namespace, place: Place) -> None:
    rounds = 1 if options.quick else options.pairs
    with start_brokers(place.folder, options.only) as brokers:
        runs = accept.measure(place.folder, brokers, rounds, options.quick)
    print(accept.accept_table(runs))
    if place.page:
        accept.write(place.page, runs, rounds, place.machine)


def _slow_world(options: argparse.Namespace, place: Place) -> None:
    with start_brokers(place.folder, options.only) as brokers:
        runs = slow_world.measure(brokers, options.quick)
    print(slow_world.speed_table(runs))
    if place.page:
        slow_world.write(place.page, runs, place.machine)


def _dead_site(options: argparse.Namespace, place: Place) -> None:
    with start_brokers(place.folder, options.only) as brokers:
        readings = dead_site.measure(brokers, dead_site.QUICK if options.quick else dead_site.FULL)
    print(dead_site.delay_table(readings))
    if place.page:
        dead_site.write(place.page, readings, place.machine)


def _scheduler(options: argparse.Namespace, place: Place) -> None:
    text = scheduler_part.measure(options.quick)
    print(text)
    if place.page:
        scheduler_part.write(place.page, text, place.machine)


def _metrics(options: argparse.Namespace, place: Place) -> None:
    pairs = 1 if options.quick else METRICS_PAIRS
    messages = options.messages or (QUICK_MESSAGES if options.quick else METRICS_MESSAGES)
    with plain_python():
        runs = metrics_part.run(place.folder, place.sink, pairs, messages)
    print(metrics_part.cost_table(runs))
    if place.page:
        metrics_part.write(place.page, runs, {**place.machine, "postroad": PLAIN})


def _memory(options: argparse.Namespace, place: Place) -> None:
    messages = options.messages or (QUICK_MESSAGES if options.quick else MEMORY_MESSAGES)
    table = memory.table(memory.measure(place.folder, place.sink, messages))
    print(table)
    if place.page:
        write_memory(place.page, table)


PARTS: dict[str, Callable[[argparse.Namespace, Place], None]] = {
    "throughput": _throughput,
    "services": _services,
    "accept": _accept,
    "slow-world": _slow_world,
    "dead-site": _dead_site,
    "scheduler": _scheduler,
    "metrics": _metrics,
    "memory": _memory,
}
ALL = [name for name in PARTS if name != "memory"]


def run(options: argparse.Namespace) -> None:
    """Measure what is asked for, part by part; print, and write the page if it is whole."""
    install_postfix()
    compiled = use_compiled()
    partial = options.quick or options.only or options.scenario or options.messages
    with bench_folder(options.folder) as (folder, file_system), Sink() as sink:
        machine = describe_machine(folder, file_system, compiled=compiled)
        print(machine_table(machine), flush=True)
        place = Place(folder, sink, machine, None if partial else PAGE)
        for name in ALL if options.what == "all" else [options.what]:
            print(f"\n== {name}\n", flush=True)
            PARTS[name](options, place)


def main() -> int:
    """Entry point; returns the exit code."""
    try:
        run(parse(sys.argv[1:]))
    except (BenchError, PostfixMissing, RabbitMqMissing) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
