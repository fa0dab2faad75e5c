"""The systems that are measured, each behind the same few verbs."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tests.bench.figures import BenchError
from tests.support.pipeline import SERVICES, Pipeline, free_port
from tests.support.postfix import Postfix
from tests.support.rabbitmq import RabbitNode, running_node

TEMPLATES = Path(__file__).parent / "postfix"
SETTLE_TIMEOUT = 30.0
POSTFIX = "Postfix"
RABBITMQ = "postroad on RabbitMQ"
EMBEDDED = "postroad embedded"
SYSTEMS = {"postfix": POSTFIX, "rabbitmq": RABBITMQ, "embedded": EMBEDDED}
"""The words of the command line."""


class System(Protocol):
    """A relay between the load and the sink."""

    name: str
    port: int

    def start(self) -> None:
        """Start, and return when mail is welcome."""

    def stop(self) -> None:
        """Stop everything that `start` started."""

    def parts(self) -> Mapping[str, Iterable[int]]:
        """The roots of its process trees, by the name of the part."""

    def wait_idle(self) -> None:
        """Return when nothing is queued or under way. Raises `BenchError`."""


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SETTLE_TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"not within {SETTLE_TIMEOUT} s: {what}")
        time.sleep(0.05)


class PostfixSystem:
    """Postfix as configured in `tests/bench/postfix`."""

    name = POSTFIX

    def __init__(self, home: Path, sink_port: int) -> None:
        self.port = free_port()
        home.mkdir(parents=True)
        self._postfix = Postfix(home, TEMPLATES, {"SINK_PORT": str(sink_port)}, self.port)

    def start(self) -> None:
        """See `System`."""
        self._postfix.start()

    def stop(self) -> None:
        """See `System`."""
        self._postfix.stop()

    def parts(self) -> Mapping[str, Iterable[int]]:
        """See `System`."""
        return {"postfix": [self._postfix.pid]}

    def wait_idle(self) -> None:
        """See `System`."""
        _wait_until(lambda: self._postfix.queued() == 0, "Postfix's queue is empty")


class PostroadSystem:
    """The three services, with default settings, on a broker that is there already."""

    def __init__(
        self,
        name: str,
        home: Path,
        sink_port: int,
        broker_url: str,
        broker_pids: Iterable[int] = (),
        *,
        module: str = "services.cli",
    ) -> None:
        self.name = name
        self._broker_pids = tuple(broker_pids)
        defaults = {"delivery": {"retry_schedule": ["1m"], "max_age": "72h"}}
        self.pipeline = Pipeline(home, broker_url, {"*": sink_port}, defaults, module)
        self.port = self.pipeline.smtp_port
        self._runner = asyncio.Runner()

    def start(self) -> None:
        """See `System`."""
        self._runner.run(self.pipeline.start())

    def stop(self) -> None:
        """See `System`."""
        try:
            self._runner.run(self.pipeline.stop())
        finally:
            self._runner.run(self.pipeline.abort())
            self._runner.close()

    def parts(self) -> Mapping[str, Iterable[int]]:
        """See `System`."""
        services = {name: (self.pipeline.pid(name),) for name in SERVICES}
        return {**services, "broker": self._broker_pids} if self._broker_pids else services

    def wait_idle(self) -> None:
        """See `System`."""
        _wait_until(lambda: self._runner.run(self._idle()), "no job in flight")

    async def _idle(self) -> bool:
        held = [await self.pipeline.metrics(name) for name in ("router", "delivery")]
        return not any(metrics["postroad_in_flight_jobs"] for metrics in held)


@contextmanager
def start_systems(folder: Path, sink_port: int, only: str | None) -> Iterator[list[System]]:
    """Postfix, and ours on each broker (or the one that `only` names), started; all end.

    Raises `RabbitMqMissing`, among what the systems raise.
    """
    wanted = {"postfix", only} if only else set(SYSTEMS)
    systems: list[System] = []
    with ExitStack() as stack:
        if "postfix" in wanted:
            systems.append(PostfixSystem(folder / "postfix", sink_port))
        if "rabbitmq" in wanted:
            tempfile.tempdir = str(folder)  # the node's database lies on the disk to be measured
            node = stack.enter_context(running_node())
            pids = (node.pid, *_port_mapper(node))
            home = folder / "on-rabbitmq"
            systems.append(PostroadSystem(RABBITMQ, home, sink_port, node.url, pids))
        if "embedded" in wanted:
            home = folder / "embedded"
            url = f"embedded://{home}/broker"
            systems.append(PostroadSystem(EMBEDDED, home, sink_port, url))
        for system in systems:
            stack.callback(system.stop)
            system.start()
        yield systems


def _port_mapper(node: RabbitNode) -> list[int]:
    """The node's epmd: a daemon, so not below the node, but the broker's CPU all the same."""
    port = f"ERL_EPMD_PORT={node.environment['ERL_EPMD_PORT']}\0".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            is_epmd = entry.name.isdecimal() and (entry / "comm").read_text() == "epmd\n"
            if is_epmd and port in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found
