"""One run: load on, until the sink has everything; what it took, of whose CPU."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tests.bench.cpu import tree_seconds
from tests.bench.figures import BenchError
from tests.bench.load import Scenario, Sink, source_command
from tests.bench.systems import System

RUN_TIMEOUT = 180.0


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave. CPU is milliseconds a message."""

    system: str
    scenario: str
    messages: int
    seconds: float
    cpu_ms: Mapping[str, float]
    """Of each part of the system."""
    source_ms: float
    sink_ms: float

    @property
    def rate(self) -> float:
        """Messages a second, end to end."""
        return self.messages / self.seconds

    @property
    def total_ms(self) -> float:
        """CPU milliseconds a message of the whole system."""
        return sum(self.cpu_ms.values())


def measure(system: System, sink: Sink, scenario: Scenario, messages: int) -> Run:
    """Send `messages` through the system and wait for the last one. Raises `BenchError`."""
    parts = system.parts()
    before = {name: tree_seconds(pids) for name, pids in parts.items()}
    sink_before, count_before = tree_seconds([sink.pid]), sink.count
    started = time.monotonic()
    source = subprocess.Popen(source_command(scenario, messages, system.port))
    try:
        ended = sink.wait_for(count_before + messages, RUN_TIMEOUT)
    finally:
        source_seconds = _reap(source)
    system.wait_idle()
    if sink.count != count_before + messages:
        raise BenchError(f"{system.name}: {sink.count - count_before} messages of {messages} sent")
    per_message = 1000 / messages
    return Run(
        system=system.name,
        scenario=scenario.key,
        messages=messages,
        seconds=ended - started,
        cpu_ms={
            name: (tree_seconds(pids) - before[name]) * per_message for name, pids in parts.items()
        },
        source_ms=source_seconds * per_message,
        sink_ms=(tree_seconds([sink.pid]) - sink_before) * per_message,
    )


def _reap(source: subprocess.Popen[bytes]) -> float:
    """CPU seconds of the load generator, which has ended by itself or is ended here."""
    deadline = time.monotonic() + 5
    while True:
        pid, status, usage = os.wait4(source.pid, os.WNOHANG)
        if pid:
            source.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime
        if time.monotonic() > deadline:
            source.kill()
        time.sleep(0.01)
