"""postroad against Postfix, end to end: every system under every load, pair by pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.load import SCENARIOS, Scenario, Sink
from tests.bench.measure import Run, measure
from tests.bench.systems import System, start_systems


def measure_all(
    folder: Path,
    sink: Sink,
    pairs: int,
    *,
    only: str | None = None,
    scenario: str | None = None,
    messages: int | None = None,
) -> list[Run]:
    """All runs, printed as they come. Raises `BenchError`, and what starting a system raises."""
    with start_systems(folder, sink.port, only) as systems:
        return [
            run
            for one in SCENARIOS
            if scenario in {None, one.key}
            for run in _scenario(systems, sink, one, pairs, messages or one.messages)
        ]


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
