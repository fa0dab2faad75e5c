"""The page docs/benchmarks.md: each command renews its own section and leaves the other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.load import SCENARIOS, source_command
from tests.bench.measure import Run
from tests.bench.report import machine_table, split_table, throughput_table
from tests.bench.systems import TEMPLATES

HEAD = """# Benchmarks

Written by `make bench` and `make bench ARGS=memory`; do not edit. Numbers of different machines,
or of different runs, cannot be compared: what counts is the ratio to Postfix, or to another
measure, in the same run. Every run ends with an account: a message that is lost, or that came
twice, is an error and not a number.
"""

THROUGHPUT = """## Throughput

{machine}
{throughput}
CPU is milliseconds a message of all processes of the system, the broker's among them (also those
that had ended meanwhile). Its parts, and beside them load and sink, which count for no system:

{split}
### How it is measured

- Load and sink are Postfix's `smtp-source` and `smtp-sink -c`. All systems are up during the whole
  run and relay to the same sink; one is loaded at a time, the others are idle.
- A run lasts from the start of `smtp-source` until the sink has counted the last message. Then
  the system must be empty, and the sink must have got each message once.
- Runs alternate between the systems, after a warm-up each; the order turns with each pair. The
  table shows medians; ratios are taken within each pair, then their median.
- postroad runs with default settings: three processes, logs and metrics on, every queue write
  durable before the 250. The sink is one site, so it has one partition, one worker, and at most
  20 connections at a time. Postfix fsyncs its queue file before the 250. All queues lie on one file
  system, made new for the run where the disk's own is not fair to Postfix (`tests/bench/disk.py`).

The load, {pairs} runs of each:

{commands}

### Configuration of Postfix

`tests/bench/postfix/main.cf`:

```
{main}```

`tests/bench/postfix/master.cf`:

```
{master}```
"""

MEMORY = """## Memory

Embedded broker, 4 KB messages, connections reused. Ingress with idle connections has a limit;
router and delivery must stay flat over the messages, from the first reading under load on.

{table}"""


def write_throughput(path: Path, runs: Sequence[Run], machine: Mapping[str, str]) -> None:
    """Renew the section on throughput."""
    commands = "\n".join(
        f"    smtp-source {' '.join(source_command(scenario, scenario.messages, 0)[1:-1])} ..."
        for scenario in SCENARIOS
    )
    own = [run for run in runs if run.scenario == SCENARIOS[0].key]
    body = THROUGHPUT.format(
        machine=machine_table(machine),
        throughput=throughput_table(runs),
        split=split_table(runs),
        pairs=len(own) // len({run.system for run in own}),
        commands=commands,
        main=(TEMPLATES / "main.cf").read_text(),
        master=(TEMPLATES / "master.cf").read_text(),
    )
    write_section(path, "throughput", body)


def write_memory(path: Path, table: str) -> None:
    """Renew the section on memory."""
    write_section(path, "memory", MEMORY.format(table=table))


def write_section(path: Path, name: str, body: str) -> None:
    """Renew one section of the page, and its head; the other sections stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page = path.read_text() if path.exists() else ""
    page = HEAD + "\n" + page[page.index("<!-- begin ") :] if "<!-- begin " in page else HEAD
    path.write_text(replace_section(page, name, body))


def replace_section(page: str, name: str, body: str) -> str:
    """The page with the section between its two marks replaced, or appended if it has none."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n\n{body.strip()}\n\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: section, page)
    return f"{page.rstrip()}\n\n{section}\n"
