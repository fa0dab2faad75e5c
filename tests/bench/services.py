"""Each service alone, on both brokers, beside what a client without postroad takes."""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench import reference
from tests.bench.brokers import Brokers
from tests.bench.drain import MARGIN, Case, drain
from tests.bench.figures import Stretch
from tests.bench.load import Sink
from tests.bench.page import write_section
from tests.bench.reference import AIOSMTPLIB, BARE
from tests.bench.tables import machine_line, table, verdict

NEW_CONNECTIONS = {"limits": {"default": {"messages_per_connection": 1}}}
MB = 1 << 20

CASES = (
    Case("router", "router, 4 KB", "router", "routed", 4096, 20_000, 0.08),
    Case("reused", "delivery, 4 KB, connections reused", "delivery", "delivered", 4096, 20_000,
         0.06),
    Case("new", "delivery, 4 KB, a new connection a message", "delivery", "delivered", 4096,
         10_000, 0.20, NEW_CONNECTIONS),
    Case("large", "delivery, 1 MB from the content store", "delivery", "delivered", MB, 300,
         1.0),
)  # fmt: skip
REUSED = {"reused": True, "new": False, "large": True}
"""The cases that a client can be compared with, and whether it reuses its connections."""

Runs = Mapping[tuple[str, str], Sequence[Stretch]]
"""By case and broker."""
References = Mapping[tuple[str, str], Sequence[float]]
"""CPU milliseconds a message by case and client."""

TEXT = """## One service at a time

{machine}
CPU milliseconds a message of one service that works off a full queue, with nothing else to do.
In the same run aiosmtplib as it is took "aiosmtplib / ours" times as much; postroad takes "ours /
floor" times as much as a bare client. Both only send:

{table}
The clients themselves, CPU milliseconds a message:

{clients}
### How it is measured

- The queue is filled through the interface of the broker before the service starts: accepted mail
  for the router, jobs of one site for delivery, in the queue where the router would put them.
- What counts lies between the moment when {margin:.0%} of the messages are done, by the service's
  own log, and the moment when {margin:.0%} are left. So the start of the process, and its end, do
  not count; what it has read ahead is the same at both moments.
- CPU is that of the service's processes from /proc, all threads, user and system: that includes
  the embedded broker, which is part of the service. RabbitMQ's own is in a column beside.
- No other service runs, but beside delivery the router, which is not counted: through it come again
  jobs that delivery gives back.
- Default settings but for the case with a new connection a message
  (`messages_per_connection: 1`): metrics and logs are on, a connection is renewed after 100
  messages, one site gets 20 connections. The next hop is Postfix's `smtp-sink` on loopback.
- In the end each message was in the log once, and `smtp-sink` had counted as many.
- aiosmtplib is used as it is (`sendmail`, uvloop, {connections} connections); the floor is a bare
  `asyncio.Protocol` (`tests/bench/bare.py`) that pipelines and checks next to nothing. Neither has
  a queue, a log or metrics.
- Medians of {rounds} rounds, in each of which everything ran once.
"""


def measure(brokers: Brokers, sink: Sink, rounds: int, quick: bool) -> tuple[Runs, References]:
    """Every case on every broker and with every client, in `rounds` rounds."""
    runs: dict[tuple[str, str], list[Stretch]] = defaultdict(list)
    clients: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds):
        for case in CASES:
            messages = max(20, case.messages // 50) if quick else case.messages
            # Every other round runs the other way round, so that none always follows the same.
            for broker in brokers.names[:: 1 if number % 2 == 0 else -1]:
                with brokers.place(broker) as place:
                    run = asyncio.run(drain(place, case, sink, messages))
                runs[case.key, broker].append(run)
                _show(case.title, broker, run.cpu_ms("service"), run.rate)
            for client in reference.CLIENTS if case.key in REUSED else ():
                used = reference.measure(client, REUSED[case.key], sink, case.octets, messages)
                clients[case.key, client].append(used)
                _show(case.title, client, used)
    return runs, clients


def _show(title: str, who: str, used: float, rate: float = 0) -> None:
    tail = f"  {rate:7,.0f} messages/s" if rate else ""
    print(f"{title:44} {who:22} CPU {used:.3f} ms{tail}", flush=True)


def services_table(runs: Runs, clients: References) -> str:
    """CPU of every case on every broker, against what is wanted and what clients take."""
    head = ["work", "broker", "CPU ms", "wanted", "", "aiosmtplib / ours", "ours / floor",
            "messages/s", "broker's CPU ms"]  # fmt: skip
    cases = {case.key: case for case in CASES}
    return table(head, [_row(cases[key], name, runs, clients) for key, name in runs])


def _row(case: Case, broker: str, runs: Runs, clients: References) -> list[str]:
    own = runs[case.key, broker]
    used = statistics.median(run.cpu_ms("service") for run in own)
    broker_used = statistics.median(run.cpu_ms("broker") for run in own)
    theirs = [clients.get((case.key, client)) for client in (AIOSMTPLIB, BARE)]
    medians = [statistics.median(found) if found else 0.0 for found in theirs]
    return [
        case.title,
        broker,
        f"{used:.3f}",
        f"{case.wanted:.2f}",
        verdict(used <= case.wanted),
        f"{medians[0] / used:.2f}" if medians[0] and used else "-",
        f"{used / medians[1]:.2f}" if medians[1] else "-",
        f"{statistics.median(run.rate for run in own):,.0f}",
        f"{broker_used:.3f}" if broker_used else "-",
    ]


def clients_table(clients: References) -> str:
    """What each client took."""
    titles = {case.key: case.title.removeprefix("delivery, ") for case in CASES}
    rows = [
        [titles[key], client, f"{statistics.median(used):.3f}"]
        for (key, client), used in clients.items()
    ]
    return table(["work", "client", "CPU ms"], rows)


def write(
    path: Path, runs: Runs, clients: References, rounds: int, machine: Mapping[str, str]
) -> None:
    """Renew the section."""
    body = TEXT.format(
        machine=machine_line(machine),
        table=services_table(runs, clients),
        clients=clients_table(clients),
        margin=MARGIN,
        connections=reference.CONNECTIONS,
        rounds=rounds,
    )
    write_section(path, "services", body)
