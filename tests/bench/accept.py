"""Acceptance alone: from the client's first octet to the 250, nothing is sent on."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from tests.bench.acceptors import AIOSMTPD, BARE
from tests.bench.brokers import Brokers
from tests.bench.cpu import tree_seconds
from tests.bench.engine import wait_for_port
from tests.bench.figures import BenchError, Mark, Stretch
from tests.bench.load import Scenario, source_command
from tests.bench.machine import touch_memory
from tests.bench.page import write_section
from tests.bench.systems import POSTFIX, TEMPLATES
from tests.bench.tables import machine_line, table, verdict
from tests.support.pipeline import ROOT, Pipeline, free_port
from tests.support.postfix import Postfix, tool

TIMEOUT = 240.0
WARM_UP = 0.2
"""Of the messages of a run: the first ones make files and fill caches that then stay."""
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of load. `wanted`: CPU milliseconds a message of ingress, at most, None for none.

    With `pipelined` the envelope comes in one write; `tls` is STARTTLS.
    """

    title: str
    octets: int
    messages: int
    wanted: float | None
    reuse: bool = True
    pipelined: bool = False
    tls: bool = False

    def command(self, messages: int, port: int) -> list[str]:
        """What makes it."""
        if self.pipelined or self.tls:
            numbers = [port, int(self.tls), int(self.reuse), self.octets, messages]
            return [sys.executable, "-m", "tests.bench.sender", *map(str, numbers)]
        scenario = Scenario("accept", self.title, self.octets, self.reuse, messages)
        return source_command(scenario, messages, port)


LOADS = (
    Load("4 KB, a new connection a message", 4096, 8_000, 0.18, reuse=False),
    Load("4 KB, connections reused", 4096, 15_000, 0.10),
    Load("4 KB, reused, pipelined", 4096, 15_000, 0.10, pipelined=True),
    Load("4 KB, reused, pipelined, TLS", 4096, 10_000, None, pipelined=True, tls=True),
    Load("4 KB, new, TLS", 4096, 1_500, None, reuse=False, tls=True),
    Load("100 KB, connections reused", 102_400, 2_000, None),
    Load("5 MB, connections reused", 5 * MB, 60, 5.0),
)


@dataclass(frozen=True, slots=True)
class Target:
    """Somebody who accepts, and of whom the processes are counted."""

    name: str
    port: int
    pids: tuple[int, ...]
    broker_pids: tuple[int, ...] = ()
    tls: bool = True


Runs = Mapping[tuple[str, str], Sequence[Stretch]]
"""By load and target."""

TEXT = """## Acceptance alone

{machine}
Mail is accepted and stays where it was put: no router and no delivery run, and Postfix holds it
(`static:HOLD`). Rates are bounded by the load generator and the disk; CPU is what the processes of
each take, milliseconds a message: of postroad ingress only, the broker's beside it.

{table}
- Load: `smtp-source` with 20 sessions; a bare client of ours (`tests/bench/sender.py`) where
  PIPELINING or TLS is asked for.
- postroad runs with default settings: policy, metrics and logs on, the 250 only after the broker's
  confirm. aiosmtpd and the bare protocol (`tests/bench/acceptors.py`) forget what they accept.
- Before each run with 5 MB, most of the free memory is used once: else the host of a virtual
  machine hands it out while we measure, which was most of the cost.
- Medians of {rounds} rounds, in each of which all were loaded once, after a warm-up with a fifth of
  the load.
"""


def measure(folder: Path, brokers: Brokers, rounds: int, quick: bool) -> Runs:
    """All loads on all targets, in `rounds` rounds. Raises `BenchError`."""
    runs: dict[tuple[str, str], list[Stretch]] = defaultdict(list)
    with ExitStack() as stack:
        targets = [
            stack.enter_context(_postfix(folder / "accept-postfix")),
            *[stack.enter_context(_postroad(brokers, name)) for name in brokers.names],
            *[stack.enter_context(_reference(name)) for name in (AIOSMTPD, BARE)],
        ]
        for number in range(rounds):
            for load in LOADS:
                messages = max(20, load.messages // 50) if quick else load.messages
                for target in targets[:: 1 if number % 2 == 0 else -1]:
                    if load.octets >= MB and not quick:
                        touch_memory()
                    if target.tls or not load.tls:
                        run = _run(target, load, messages)
                        runs[load.title, target.name].append(run)
                        print(
                            f"{load.title:36} {target.name:22} CPU {run.cpu_ms('own'):.3f} ms"
                            f"  {run.rate:7,.0f} messages/s",
                            flush=True,
                        )
    return runs


def _run(target: Target, load: Load, messages: int) -> Stretch:
    _send(target, load, max(1, round(WARM_UP * messages)))
    marks = []
    for done in (0, messages):
        if done:
            _send(target, load, messages)
        used = {"own": tree_seconds(target.pids), "broker": tree_seconds(target.broker_pids)}
        marks.append(Mark(time.monotonic(), done, used))
    return Stretch.between(*marks)


def _send(target: Target, load: Load, messages: int) -> None:
    command = load.command(messages, target.port)
    done = subprocess.run(command, cwd=ROOT, check=False, timeout=TIMEOUT)
    if done.returncode:
        raise BenchError(f"{target.name}: not everything was accepted: {load.title}")


def _certificate(folder: Path) -> tuple[Path, Path]:
    leaf = trustme.CA().issue_cert("mta.bench.example")
    certificate, key = folder / "tls.crt", folder / "tls.key"
    leaf.private_key_pem.write_to_path(key)
    certificate.unlink(missing_ok=True)
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(certificate, append=True)
    return certificate, key


@contextmanager
def _postfix(home: Path) -> Iterator[Target]:
    home.mkdir(parents=True)
    certificate, key = _certificate(home)
    postfix = Postfix(home, TEMPLATES, {"SINK_PORT": "9"}, free_port())
    postfix.start()
    try:
        settings = [
            "smtpd_client_restrictions = check_client_access static:HOLD",
            "smtpd_tls_security_level = may",
            f"smtpd_tls_cert_file = {certificate}",
            f"smtpd_tls_key_file = {key}",
        ]
        service = "tlsmgr/unix=tlsmgr unix - - n 1000? 1 tlsmgr"
        for command in (
            ["postconf", "-e", *settings],
            ["postconf", "-M", service],
            ["postfix", "reload"],
        ):
            subprocess.run(
                [tool(command[0]), "-c", str(postfix.config), *command[1:]],
                check=True,
                stderr=subprocess.DEVNULL,
            )
        yield Target(POSTFIX, postfix.port, (postfix.pid,))
    finally:
        postfix.stop()


@contextmanager
def _postroad(brokers: Brokers, name: str) -> Iterator[Target]:
    with brokers.place(name) as place, asyncio.Runner() as runner:
        certificate, key = _certificate(place.folder)
        port = free_port()
        listener = {"address": "127.0.0.1", "port": port, "tls": "starttls", "auth": "none"}
        ingress: dict[str, Any] = {
            "listeners": [{**listener, "relay_networks": ["127.0.0.0/8"]}],
            "tls": {"certificate": str(certificate), "key": str(key)},
        }
        pipeline = Pipeline(place.folder, place.url, {"*": 9}, {"ingress": ingress})
        try:
            runner.run(pipeline.start(["ingress"]))
            pid = pipeline.pid("ingress")
            yield Target(name, port, (pid,), place.broker_pids)
            runner.run(pipeline.stop())
        finally:
            runner.run(pipeline.abort())


@contextmanager
def _reference(name: str) -> Iterator[Target]:
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.acceptors", name, str(port)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            wait_for_port(port)
            yield Target(name, port, (process.pid,), tls=False)
        finally:
            process.kill()


def accept_table(runs: Runs) -> str:
    """Rate and CPU of every load on every target."""
    wanted = {load.title: load.wanted for load in LOADS}
    head = ["load", "who", "messages/s", "CPU ms", "wanted", "broker's CPU ms"]
    rows = []
    for (title, name), own in runs.items():
        used = statistics.median(run.cpu_ms("own") for run in own)
        broker = statistics.median(run.cpu_ms("broker") for run in own)
        goal = wanted[title] if name.startswith("postroad") else None
        rows.append([
            title,
            name,
            f"{statistics.median(run.rate for run in own):,.0f}",
            f"{used:.3f}",
            f"{goal:.2f}, {verdict(used <= goal)}" if goal else "-",
            f"{broker:.3f}" if broker else "-",
        ])  # fmt: skip
    return table(head, rows)


def write(path: Path, runs: Runs, rounds: int, machine: Mapping[str, str]) -> None:
    """Renew the section."""
    body = TEXT.format(machine=machine_line(machine), table=accept_table(runs), rounds=rounds)
    write_section(path, "accept", body)
