"""Runs to tables (pure).

Ratios are taken pair by pair, a run of ours against the run of Postfix next to it, and the median
of the pairs is reported: a machine that slows down for a while slows both.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from tests.bench.load import SCENARIOS, Scenario
from tests.bench.measure import Run
from tests.bench.systems import EMBEDDED, POSTFIX, RABBITMQ
from tests.bench.tables import table, verdict

WANTED = {
    RABBITMQ: {"4k-reused": 2.0, "4k-new": 1.5, "100k-reused": 1.2},
    EMBEDDED: {"4k-reused": 2.0, "4k-new": 1.5, "100k-reused": 1.2},
}
"""The least ratio to Postfix that a build must reach."""


def median_of(runs: Sequence[Run], value: Callable[[Run], float]) -> float:
    """The median of a value of the runs."""
    return statistics.median(map(value, runs))


def ratio(
    ours: Sequence[Run], base: Sequence[Run], value: Callable[[Run], float] = lambda run: run.rate
) -> float:
    """The median over the pairs of ours / base."""
    pairs = zip(ours, base, strict=True)
    return statistics.median(value(one) / value(other) for one, other in pairs)


def select(runs: Iterable[Run], system: str, scenario: str) -> list[Run]:
    """The runs of one system in one scenario, in order."""
    return [run for run in runs if (run.system, run.scenario) == (system, scenario)]


def _present(runs: Sequence[Run]) -> list[Scenario]:
    keys = {run.scenario for run in runs}
    return [scenario for scenario in SCENARIOS if scenario.key in keys]


def throughput_table(runs: Sequence[Run]) -> str:
    """Messages a second and CPU a message, with the ratios to Postfix."""
    rows = [
        _throughput_row(scenario, system, runs)
        for scenario in _present(runs)
        for system in dict.fromkeys(run.system for run in runs)
    ]
    head = ["load", "system", "messages/s", "range", "to Postfix", "wanted", "CPU ms", "to Postfix"]
    return table(head, rows)


def _throughput_row(scenario: Scenario, system: str, runs: Sequence[Run]) -> list[str]:
    own, base = select(runs, system, scenario.key), select(runs, POSTFIX, scenario.key)
    rates = [run.rate for run in own]
    wanted = WANTED.get(system, {}).get(scenario.key)
    times = ratio(own, base) if base else 0.0
    return [
        scenario.title,
        system,
        f"{statistics.median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{times:.2f}" if base else "-",
        f"{wanted:.1f}, {verdict(times >= wanted)}" if wanted and base else "-",
        f"{median_of(own, lambda run: run.total_ms):.2f}",
        f"{ratio(own, base, lambda run: run.total_ms):.2f}" if base else "-",
    ]


def split_table(runs: Sequence[Run]) -> str:
    """CPU milliseconds a message by part; load and sink beside them."""
    parts = list(dict.fromkeys(part for run in runs for part in run.cpu_ms))
    rows = [
        [
            scenario.title,
            system,
            *(_part(own, part) for part in parts),
            f"{median_of(own, lambda run: run.source_ms):.3f}",
            f"{median_of(own, lambda run: run.sink_ms):.3f}",
        ]
        for scenario in _present(runs)
        for system in dict.fromkeys(run.system for run in runs)
        if (own := select(runs, system, scenario.key))
    ]
    return table(["load", "system", *parts, "smtp-source", "smtp-sink"], rows)


def _part(own: Sequence[Run], part: str) -> str:
    if part not in own[0].cpu_ms:
        return "-"
    return f"{median_of(own, lambda run: run.cpu_ms[part]):.3f}"


def machine_table(machine: Mapping[str, str]) -> str:
    """The machine, one line a property."""
    return table(["machine", ""], machine.items())
