"""Resident memory: ingress with idle connections, router and delivery over many messages."""

from __future__ import annotations

import resource
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cpu import resident_bytes
from tests.bench.figures import BenchError
from tests.bench.load import SCENARIOS, Sink
from tests.bench.measure import measure as measure_run
from tests.bench.systems import EMBEDDED, PostroadSystem

CONNECTIONS = 2000
INGRESS_LIMIT_MB = 150
STEPS = 5
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """Resident MB of a service at a moment."""

    service: str
    when: str
    megabytes: float


def measure(folder: Path, sink: Sink, messages: int) -> list[Reading]:
    """Readings on the embedded broker: idle connections first, then `messages` of 4 KB.

    The first step of the messages is the warm-up: memory is flat if it does not grow after it.
    """
    url = f"embedded://{folder}/broker"
    system = PostroadSystem(EMBEDDED, folder / "postroad", sink.port, url, ())
    system.start()
    try:
        readings = _idle_connections(system)
        for step in range(1, STEPS + 1):
            measure_run(system, sink, SCENARIOS[0], messages // STEPS)
            sent = f"{messages // STEPS * step:,} messages"
            readings += [_reading(system, name, sent) for name in ("ingress", "router", "delivery")]
            print(*readings[-3:], sep="\n", flush=True)
    finally:
        system.stop()
    return readings


def _idle_connections(system: PostroadSystem) -> list[Reading]:
    readings = [_reading(system, name, "start") for name in ("ingress", "router", "delivery")]
    _allow_files(CONNECTIONS + 200)
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            client = socket.create_connection(("127.0.0.1", system.port), timeout=30)
            stack.callback(client.close)
            _greet(client)
        return [*readings, _reading(system, "ingress", f"{CONNECTIONS:,} idle connections")]


def _greet(client: socket.socket) -> None:
    """Banner and EHLO: an idle connection of a real client has been greeted."""
    replies = client.makefile("rb")
    if not replies.readline().startswith(b"220"):
        raise BenchError("ingress did not welcome a connection")
    client.sendall(b"EHLO idle.bench.example\r\n")
    while (line := replies.readline())[3:4] == b"-":
        pass
    if not line.startswith(b"250"):
        raise BenchError(f"ingress did not answer EHLO but {line!r}")
    replies.close()


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


def _reading(system: PostroadSystem, name: str, when: str) -> Reading:
    return Reading(name, when, resident_bytes(system.pipeline.pid(name)) / MB)


def table(readings: Sequence[Reading]) -> str:
    """The readings, a line each, with the limit where there is one."""
    lines = ["| service | when | resident MB | limit |", "| --- | --- | --- | --- |"]
    for reading in readings:
        limit = str(INGRESS_LIMIT_MB) if "idle" in reading.when else "flat"
        shown = limit if reading.when != "start" else "-"
        lines.append(f"| {reading.service} | {reading.when} | {reading.megabytes:.1f} | {shown} |")
    return "\n".join(lines) + "\n\n" + growth(readings) + "\n"


def growth(readings: Sequence[Reading]) -> str:
    """How much each service grew from the first reading under load, the warm-up, to the last."""
    loaded = [reading for reading in readings if reading.when.endswith("messages")]
    first, last = loaded[:3], loaded[-3:]
    grew = [
        f"{then.service} {now.megabytes - then.megabytes:+.1f} MB"
        for then, now in zip(first, last, strict=True)
    ]
    return f"From {first[0].when} to {last[0].when}: {', '.join(grew)}."
