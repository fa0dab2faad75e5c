from __future__ import annotations

from pathlib import Path

from tests.bench import memory
from tests.bench.measure import Run
from tests.bench.memory import Reading
from tests.bench.page import replace_section, write_memory, write_throughput
from tests.bench.report import ratio, split_table, throughput_table
from tests.bench.systems import EMBEDDED, POSTFIX


def run(system: str, seconds: float, **cpu_ms: float) -> Run:
    return Run(system, "4k-reused", 1000, seconds, cpu_ms, source_ms=0.1, sink_ms=0.05)


RUNS = [
    run(POSTFIX, 1.0, postfix=1.0),
    run(EMBEDDED, 0.5, ingress=0.2, router=0.1, delivery=0.2),
    run(EMBEDDED, 1.0, ingress=0.2, router=0.1, delivery=0.2),
    run(POSTFIX, 4.0, postfix=1.0),
    run(POSTFIX, 1.0, postfix=1.0),
    run(EMBEDDED, 1.0, ingress=0.4, router=0.1, delivery=0.5),
]


def test_ratios_are_taken_within_pairs_before_the_median() -> None:
    ours = [one for one in RUNS if one.system == EMBEDDED]
    postfix = [one for one in RUNS if one.system == POSTFIX]
    assert ratio(ours, postfix) == 2.0, "of 2, 4 and 1"


def test_the_table_shows_medians_ratios_and_what_is_wanted() -> None:
    lines = throughput_table(RUNS).splitlines()
    assert lines[2].split(" | ")[1:] == [
        POSTFIX, "1,000", "250 to 1,000", "1.00", "-", "1.00", "1.00 |",
    ]  # fmt: skip
    assert lines[3].split(" | ")[1:] == [
        EMBEDDED, "1,000", "1,000 to 2,000", "2.00", "2.0, reached", "0.50", "0.50 |",
    ]  # fmt: skip


def test_the_split_leaves_out_parts_that_a_system_does_not_have() -> None:
    lines = split_table(RUNS).splitlines()
    assert lines[0].count("|") == lines[2].count("|") == 9
    assert lines[2].endswith("| 1.000 | - | - | - | 0.100 | 0.050 |")
    assert lines[3].endswith("| - | 0.200 | 0.100 | 0.200 | 0.100 | 0.050 |")


def test_a_section_is_appended_once_and_then_replaced() -> None:
    page = replace_section("# Head\n", "a", "first \\1")
    page = replace_section(page, "b", "other")
    page = replace_section(page, "a", "second")
    assert page == (
        "# Head\n\n<!-- begin a -->\n\nsecond\n\n<!-- end a -->\n\n"
        "<!-- begin b -->\n\nother\n\n<!-- end b -->\n"
    )


def test_the_page_keeps_the_section_that_the_other_command_wrote(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "benchmarks.md"
    services = ("ingress", "router", "delivery")
    readings = [Reading("ingress", "2,000 idle connections", 63.4)]
    readings += [Reading(name, "20 messages", 60.0) for name in services]
    readings += [Reading(name, "100 messages", 61.5) for name in services]

    write_memory(path, memory.table(readings))
    write_throughput(path, RUNS, {"CPU": "a fast one"})
    write_throughput(path, RUNS, {"CPU": "a slow one"})

    page = path.read_text()
    assert page.startswith("# Benchmarks\n")
    assert "| ingress | 2,000 idle connections | 63.4 | 150 |" in page
    assert "From 20 messages to 100 messages: ingress +1.5 MB, router +1.5 MB" in page
    assert ("a slow one" in page, "a fast one" in page) == (True, False)
    assert "default_destination_concurrency_limit = 50\n" in page
    assert "smtp-source -s 20 -m 10000 -l 4096 -d -f " in page
