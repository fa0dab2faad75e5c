"""A world of receivers (`tests.bench.receiver`) as its user sees it, and a site that is none."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.support.pipeline import ROOT, free_port

FILL = 8
"""Connections that fill the queue of a socket which never accepts."""


def site_addresses(count: int) -> list[str]:
    """Addresses of loopback, one a site."""
    return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(count)]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a world knows: by recipient when mail came (`time.monotonic()`), and the most
    connections that any one address had at a time.
    """

    times: Mapping[str, Sequence[float]]
    most: int


class World:
    """A process that receives for `addresses`, each transaction taking `delay` seconds."""

    def __init__(self, addresses: Sequence[str], delay: float) -> None:
        self.port = free_port()
        self.addresses = addresses
        self._command = [sys.executable, "-m", "tests.bench.receiver", str(self.port), str(delay)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*self._command, *self.addresses],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"
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
        """Its process id."""
        return self._process.pid

    def hosts(self, number: int) -> str:
        """The next hop of a site, as a static route names it."""
        return f"{self.addresses[number]}:{self.port}"

    def count(self) -> int:
        """Transactions so far, whether answered yet or not."""
        return int(self._ask("count"))

    def report(self) -> Report:
        """All it knows."""
        return Report(**self._ask("report"))

    def _ask(self, question: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextmanager
def black_hole(address: str) -> Iterator[int]:
    """The port of a socket that never answers: its queue is full, so SYNs to it are dropped."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((address, 0), backlog=0))
        port: int = listener.getsockname()[1]
        for _ in range(FILL):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((address, port))
        yield port
