"""The tables of the parts, and that the page keeps what other parts wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import dead_site, metrics_part, scheduler_part, services, slow_world
from tests.bench.dead_site import Reading
from tests.bench.figures import BenchError, Stretch
from tests.bench.measure import Run
from tests.bench.slow_world import Speed
from tests.bench.systems import EMBEDDED
from tests.bench.trouble import Trouble

MACHINE = {"CPU": "a fast one", "cores": "2"}


def cells(table: str, row: int) -> list[str]:
    return table.splitlines()[2 + row].strip("| ").split(" | ")


def drained(cpu_ms: float) -> Stretch:
    return Stretch(1000, 0.5, {"service": cpu_ms, "broker": 0.0})


SERVICE_RUNS = {
    ("router", EMBEDDED): [drained(0.09), drained(0.07), drained(0.08)],
    ("reused", EMBEDDED): [drained(0.1)],
}
CLIENTS = {("reused", "aiosmtplib"): [0.3, 0.1, 0.2], ("reused", "bare"): [0.02]}


def test_services_are_judged_by_the_median_and_compared_both_ways() -> None:
    table = services.services_table(SERVICE_RUNS, CLIENTS)
    assert cells(table, 0)[2:] == ["0.080", "0.08", "reached", "-", "-", "2,000", "-"]
    assert cells(table, 1)[2:] == ["0.100", "0.06", "**missed**", "2.00", "5.00", "2,000", "-"]
    assert cells(services.clients_table(CLIENTS), 0)[1:] == ["aiosmtplib", "0.200"]


def speed(workers: int, rate: float) -> Speed:
    cpu = {"workers": 0.5, "broker": 0.0, "receiver": 0.25}
    return Speed(EMBEDDED, workers, Stretch(round(rate), 1.0, cpu), 2)


SPEEDS = [speed(1, 500), speed(2, 1000), speed(3, 1250)]


def test_more_workers_are_compared_with_one_and_the_last_is_judged() -> None:
    table = slow_world.speed_table(SPEEDS)
    assert cells(table, 0) == [EMBEDDED, "1", "500", "1.00", "-", "-", "1.000", "0.75", "2"]
    assert cells(table, 2)[3:6] == ["2.50", "2.7", "**missed**"]


def reading(trouble: Trouble, number: int, p99: float) -> Reading:
    return Reading(EMBEDDED, number, trouble, [p99 / 2, p99], {"router": 60, "delivery": 70}, 2.0)


READINGS = [
    reading(Trouble.NONE, 1, 0.010),
    reading(Trouble.SLOW, 1, 0.013),
    reading(Trouble.NONE, 1, 0.012),
    reading(Trouble.SLOW, 2, 0.013),
    reading(Trouble.NONE, 2, 0.020),
]


def test_growth_is_taken_within_the_round_and_the_second_one_is_judged() -> None:
    table = dead_site.delay_table(READINGS)
    assert [cells(table, row)[5] for row in range(5)] == ["-", "+18 %", "+20 %", "-35 %", "-"]
    assert cells(table, 1)[3:] == [
        "6.5", "13.0", "+18 %", "-", "-", "60", "70", "2.0/s",
    ]  # fmt: skip
    assert cells(table, 3)[2:8] == [
        "comes round", "6.5", "13.0", "-35 %", "under 20 %", "reached",
    ]  # fmt: skip
    assert cells(table, 2)[6:] == ["-", "-", "60", "70", "-"]


def test_growth_beyond_what_is_wanted_is_missed() -> None:
    table = dead_site.delay_table([reading(Trouble.REFUSED, 2, 0.0242), READINGS[-1]])
    assert cells(table, 0)[5:8] == ["+21 %", "under 20 %", "**missed**"]


def test_each_part_writes_a_section_of_its_own_and_leaves_the_others(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(
        "# Benchmarks\n\nAn old head.\n\n<!-- begin old -->\n\nstays\n\n<!-- end old -->\n"
    )
    services.write(page, SERVICE_RUNS, CLIENTS, 3, MACHINE)
    slow_world.write(page, SPEEDS, MACHINE)
    dead_site.write(page, READINGS, MACHINE)
    scheduler_part.write(page, "so many decisions", MACHINE)
    services.write(page, SERVICE_RUNS, CLIENTS, 5, MACHINE)
    text = page.read_text()
    names = ("old", "services", "slow-world", "dead-site", "scheduler")
    assert [text.count(f"<!-- begin {name} -->") for name in names] == [1] * 5
    assert ("stays" in text, "An old head." in text) == (True, False)
    assert ("Medians of 5 rounds" in text, "Medians of 3 rounds" in text) == (True, False)
    assert text.count("Measured on CPU: a fast one; cores: 2.") == 4


def test_a_benchmark_of_the_scheduler_that_is_missing_or_fails_is_named() -> None:
    with pytest.raises(BenchError, match="not_there is not there"):
        scheduler_part.measure(quick=True, module="tests.bench.not_there")
    with pytest.raises(BenchError, match="test_parts"):
        scheduler_part.measure(quick=True, module="tests.bench.test_parts")


if __name__ == "__main__":
    raise SystemExit(1)  # as the benchmark that fails, above


def counted(name: str, cpu: float) -> Run:
    return Run(name, "4k-reused", 100, 1.0, {"ingress": cpu}, 0.0, 0.0)


def test_what_metrics_cost_is_the_median_of_the_pairs() -> None:
    pairs = [(1.00, 0.98), (2.00, 1.90), (1.00, 0.50)]
    runs = [
        counted(name, cpu)
        for pair in pairs
        for name, cpu in zip(metrics_part.MODULES, pair, strict=True)
    ]
    assert [round(cost) for cost in metrics_part.costs(runs)] == [2, 5, 50]
    table = metrics_part.cost_table(runs)
    assert cells(table, 0) == ["with metrics", "1.000", "1.000", "5.0 %", "3 %", "**missed**"]
    assert cells(table, 1)[:3] == ["without", "0.980", "0.980"]
