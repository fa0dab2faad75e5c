"""`python -m tests.bench`: postroad against Postfix, in one run on one machine.

make bench                         everything; writes docs/benchmarks.md
make bench ARGS="--quick"          a smoke run, prints only
make bench ARGS="--only embedded"  Postfix and the embedded broker only, prints only
make bench ARGS="memory"           resident memory; writes its section
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench import memory
from tests.bench.disk import bench_folder
from tests.bench.load import SCENARIOS, BenchError, Scenario, Sink
from tests.bench.machine import describe_machine
from tests.bench.measure import Run, measure
from tests.bench.page import write_memory, write_throughput
from tests.bench.report import machine_table, split_table, throughput_table
from tests.bench.systems import SYSTEMS, System, start_systems
from tests.support.postfix import PostfixMissing, install_postfix
from tests.support.rabbitmq import RabbitMqMissing

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
QUICK_MESSAGES = 500
MEMORY_MESSAGES = 100_000


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", nargs="?", choices=["throughput", "memory"], default="throughput")
    parser.add_argument("--only", choices=[*SYSTEMS], help="one system besides Postfix")
    parser.add_argument("--scenario", choices=[s.key for s in SCENARIOS], help="one load")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each system and load")
    parser.add_argument("--messages", type=int, help="messages a run instead of the load's own")
    parser.add_argument("--quick", action="store_true", help="a smoke run; prints only")
    parser.add_argument(
        "--folder", type=Path, default="/var/tmp", help="where queues lie: a real disk"
    )
    return parser.parse_args(arguments)


def throughput(options: argparse.Namespace) -> None:
    """Measure every system under every load, pair by pair; print, and write the page if whole."""
    install_postfix()
    pairs = 1 if options.quick else options.pairs
    with bench_folder(options.folder) as (folder, file_system), Sink() as sink:
        machine = describe_machine(folder, file_system)
        print(machine_table(machine), flush=True)
        with start_systems(folder, sink.port, options.only) as systems:
            runs = [
                run
                for scenario in SCENARIOS
                if options.scenario in {None, scenario.key}
                for run in _scenario(systems, sink, scenario, pairs, _messages(options, scenario))
            ]
    print(throughput_table(runs), split_table(runs), sep="\n")
    if not (options.quick or options.only or options.scenario or options.messages):
        write_throughput(PAGE, runs, machine)


def _messages(options: argparse.Namespace, scenario: Scenario) -> int:
    wanted: int | None = options.messages
    return wanted or (QUICK_MESSAGES if options.quick else scenario.messages)


def _scenario(
    systems: Sequence[System], sink: Sink, scenario: Scenario, pairs: int, messages: int
) -> Iterator[Run]:
    for system in systems:
        _show(measure(system, sink, scenario, max(100, messages // 5)), "warm-up")
    for pair in range(pairs):
        # Every other pair runs the other way round, so that no system always follows the same.
        in_turn = systems if pair % 2 == 0 else systems[::-1]
        for system in in_turn:
            run = measure(system, sink, scenario, messages)
            _show(run, f"run {pair + 1} of {pairs}")
            yield run


def _show(run: Run, what: str) -> None:
    parts = ", ".join(f"{name} {value:.3f}" for name, value in run.cpu_ms.items())
    print(
        f"{run.scenario:12} {run.system:22} {what:11} {run.rate:7,.0f} messages/s"
        f"  CPU {run.total_ms:.2f} ms ({parts})",
        flush=True,
    )


def measure_memory(options: argparse.Namespace) -> None:
    """Measure resident memory; print, and write the page if whole."""
    install_postfix()
    messages = options.messages or (QUICK_MESSAGES if options.quick else MEMORY_MESSAGES)
    with bench_folder(options.folder) as (folder, _), Sink() as sink:
        table = memory.table(memory.measure(folder, sink, messages))
    print(table)
    if not (options.quick or options.messages):
        write_memory(PAGE, table)


def main() -> int:
    """Entry point; returns the exit code."""
    options = parse(sys.argv[1:])
    run = measure_memory if options.what == "memory" else throughput
    try:
        run(options)
    except (BenchError, PostfixMissing, RabbitMqMissing) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
