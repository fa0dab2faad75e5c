"""What the numbers were measured on: they mean nothing without it."""

from __future__ import annotations

import mmap
import os
import platform
import re
import sqlite3
import statistics
import subprocess
import time
from pathlib import Path

from tests.support.postfix import postfix_version

PLAIN = "plain Python"
FSYNCS = 200
TOUCHED = 0.6
"""Of the available memory: more than a part of the benchmark writes, and leaves room for it."""


def describe_machine(folder: Path, file_system: str, *, compiled: bool) -> dict[str, str]:
    """Labels and values; `folder` is on the file system that holds the queues."""
    cpu = re.search(r"(?m)^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {
        "CPU": cpu[1] if cpu else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "disk": f"write of 4 KB and fsync: {fsync_ms(folder):.2f} ms (median of {FSYNCS})",
        "file system": file_system,
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        "postroad": "hot path compiled, as in the image" if compiled else PLAIN,
        "Postfix": postfix_version(),
        "RabbitMQ": rabbitmq_version(),
    }


def touch_memory() -> None:
    """Use most of what is free once, so that the host gives it to us now.

    A virtual machine gets a page from its host when it first uses it. That time counts as ours, and
    was two thirds of what a content of 5 MB seemed to cost: its file's pages had never been used.
    """
    found = re.search(r"(?m)^MemAvailable: +([0-9]+) kB$", Path("/proc/meminfo").read_text())
    octets = int(int(found[1]) * 1024 * TOUCHED) if found else 0
    if octets:
        with mmap.mmap(-1, octets) as memory:
            for at in range(0, octets, mmap.PAGESIZE):
                memory[at] = 1


def fsync_ms(folder: Path) -> float:
    """The median time to append 4 KB to a file in `folder` and fsync it, in milliseconds."""
    times = []
    path = folder / "fsync-probe"
    with path.open("ab", buffering=0) as probe:
        for _ in range(FSYNCS):
            started = time.perf_counter()
            probe.write(b"x" * 4096)
            os.fsync(probe.fileno())
            times.append(time.perf_counter() - started)
    path.unlink()
    return statistics.median(times) * 1000


def rabbitmq_version() -> str:
    """The installed version of the Debian package, or why there is none."""
    command = ["dpkg-query", "--showformat=${Version}", "--show", "rabbitmq-server"]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    return found.stdout or "not installed"
