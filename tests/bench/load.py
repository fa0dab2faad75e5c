"""Load and sink: Postfix's own smtp-source and smtp-sink, the same for every system.

One sink runs for the whole benchmark, so that no system sees its next hop restart. It prints a
counter after each message (`-c`), which is the exact end of a run: the moment N more have come.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.bench.figures import BenchError
from tests.support.pipeline import free_port
from tests.support.postfix import tool

_MESSAGES = re.compile(rb"mesg=(\d+)")
_PIPE_BYTES = 1 << 20
_POLL = 0.01
"""Seconds between two looks at the counter: the resolution of the end of a run."""


class Sink:
    """smtp-sink on a port of loopback, counting."""

    def __init__(self) -> None:
        self.port = free_port()
        self.count = 0
        self._tail = b""

    def __enter__(self) -> Self:
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        address = f"127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            [tool("smtp-sink"), "-c", "-m", "1000", *user, address, "1000"], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """The process id of smtp-sink."""
        return self._process.pid

    def wait_for(self, count: int, timeout: float) -> float:
        """The `time.monotonic()` at which `count` messages have come. Raises `BenchError`."""
        deadline = time.monotonic() + timeout
        while self.poll() < count:
            if time.monotonic() > deadline:
                raise BenchError(f"{count - self.count} of {count} messages did not come")
            time.sleep(_POLL)
        return time.monotonic()

    def poll(self) -> int:
        """Read the counter. Often enough, or smtp-sink waits for room in the pipe."""
        try:
            self._tail = (self._tail + os.read(self._pipe, _PIPE_BYTES))[-200:]
        except BlockingIOError:
            return self.count
        numbers = _MESSAGES.findall(self._tail[: self._tail.rfind(b"\r") + 1])
        if numbers:
            self.count = int(numbers[-1])
        return self.count


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load: octets of the body, and whether a session sends more than one message."""

    key: str
    title: str
    octets: int
    reuse: bool
    messages: int
    """How many by default, chosen so that a run takes some seconds."""


SCENARIOS = (
    Scenario("4k-reused", "4 KB, connections reused", 4096, True, 10_000),
    Scenario("4k-new", "4 KB, a new connection a message", 4096, False, 6_000),
    Scenario("100k-reused", "100 KB, connections reused", 102_400, True, 2_000),
)
SESSIONS = 20


def source_command(scenario: Scenario, messages: int, port: int) -> list[str]:
    """The smtp-source that makes the load of a scenario."""
    command = [tool("smtp-source"), "-s", str(SESSIONS), "-m", str(messages)]
    command += ["-l", str(scenario.octets), *(["-d"] if scenario.reuse else [])]
    return [*command, "-f", "load@bench.example", "-t", "sink@sink.example", f"127.0.0.1:{port}"]
