"""What metrics cost: the pipeline with them and without, in turn."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench.load import SCENARIOS, Sink
from tests.bench.measure import Run, measure
from tests.bench.page import write_section
from tests.bench.systems import PostroadSystem
from tests.bench.tables import machine_line, table, verdict

COUNTED, UNCOUNTED = "with metrics", "without"
MODULES = {COUNTED: "services.cli", UNCOUNTED: "tests.bench.uncounted"}
WANTED_PERCENT = 3.0

TEXT = """## What metrics cost

{machine}
CPU of all three services on the embedded broker, milliseconds a message: {load}.

{table}
Both pipelines are up during the whole run and take turns, {pairs} times; the medians of each. The
cost is the median of what each pair differs by. In the one "without" every verb of a metric does
nothing, and nobody looks at queues and the lag of the loop (`tests/bench/uncounted.py`). Both are
plain Python: compiled code calls the verbs past what takes their place.
"""


def run(folder: Path, sink: Sink, pairs: int, messages: int) -> list[Run]:
    """A run of each in turn, `pairs` times, after a warm-up. Raises `BenchError`."""
    runs: list[Run] = []
    with ExitStack() as stack:
        systems = [_system(folder, name, sink) for name in MODULES]
        for system in systems:
            stack.callback(system.stop)
            system.start()
            measure(system, sink, SCENARIOS[0], max(100, messages // 5))
        for number in range(pairs):
            for system in systems[:: 1 if number % 2 == 0 else -1]:
                runs.append(measure(system, sink, SCENARIOS[0], messages))
                print(f"{system.name:14} CPU {runs[-1].total_ms:.4f} ms", flush=True)
    return runs


def _system(folder: Path, name: str, sink: Sink) -> PostroadSystem:
    home = folder / name.replace(" ", "-")
    return PostroadSystem(name, home, sink.port, f"embedded://{home}/broker", module=MODULES[name])


def costs(runs: Sequence[Run]) -> list[float]:
    """Percent of the CPU with metrics that each pair differs by."""
    counted, uncounted = (
        [run.total_ms for run in runs if run.system == name] for name in (COUNTED, UNCOUNTED)
    )
    pairs = zip(counted, uncounted, strict=True)
    return [100 * (with_ - without) / with_ for with_, without in pairs]


def cost_table(runs: Sequence[Run]) -> str:
    """The medians, and the verdict."""
    rows = []
    for name in MODULES:
        own = [run for run in runs if run.system == name]
        parts = [
            f"{statistics.median(run.cpu_ms[part] for run in own):.3f}" for part in own[0].cpu_ms
        ]
        total = statistics.median(run.total_ms for run in own)
        rows.append([name, *parts, f"{total:.3f}", "-", "-", ""])
    cost = statistics.median(costs(runs))
    rows[0][-3:] = [f"{cost:.1f} %", f"{WANTED_PERCENT:.0f} %", verdict(cost <= WANTED_PERCENT)]
    return table(["", *runs[0].cpu_ms, "together", "cost", "at most", ""], rows)


def write(path: Path, runs: Sequence[Run], machine: Mapping[str, str]) -> None:
    """Renew the section."""
    load = f"{runs[0].messages:,} mails a run, {SCENARIOS[0].title}"
    body = TEXT.format(
        machine=machine_line(machine), load=load, table=cost_table(runs), pairs=len(runs) // 2
    )
    write_section(path, "metrics", body)
