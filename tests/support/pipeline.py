"""The three services as real processes, with a configuration of their own in a folder.

    async with Pipeline(folder, "embedded:///...", routes={"*": receiver.port}) as pipeline:
        ...  # send to 127.0.0.1, pipeline.smtp_port

It starts, kills, pauses and stops them by their process ids and reads what they show: health,
metrics, logs. It knows nothing of what is inside. `delivery-2` is a second delivery worker, and
so on; each has an admin port of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

SERVICES = ("ingress", "router", "delivery")
ROOT = Path(__file__).parents[2]
START_TIMEOUT = 30.0
"""Seconds until a service must be ready; a loaded machine of two cores needs some."""


_PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to clients: none of these is taken before a service listens."""


def free_port() -> int:
    """A TCP port of loopback on which nobody listens."""
    while True:
        port = random.choice(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


async def eventually(
    condition: Callable[[], Awaitable[bool]], what: str, timeout: float = 20.0
) -> None:
    """Return once `condition` holds, asked every 20 ms; AssertionError after `timeout` seconds.

    For what happens in other processes, of which no event can tell.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while not await condition():
        assert loop.time() < deadline, f"not within {timeout} s: {what}"
        await asyncio.sleep(0.02)


async def http_get(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET on loopback. Raises OSError if nobody listens."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head:
        raise ConnectionResetError("no answer")
    return int(head.split()[1]), body.decode()


class Metrics(dict[str, float]):
    """Samples by their text, such as `postroad_retries_total{step="1s"}`; absent ones are 0."""

    def __missing__(self, key: str) -> float:
        return 0.0

    @classmethod
    def parse(cls, text: str) -> Metrics:
        """From the exposition format."""
        samples = cls()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return samples

    def total(self, name: str) -> float:
        """The sum over all labels."""
        return sum(v for key, v in self.items() if key.partition("{")[0] == name)


def _service(name: str) -> str:
    return name.partition("-")[0]


def _merge(into: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
    return into


class Pipeline:
    """Ingress, router and delivery on one broker.

    `routes` maps a domain, or `*`, to the loopback port of its receiver. `settings` overrides any
    key of the configuration. `module` is what is run in place of the command.
    """

    def __init__(
        self,
        folder: Path,
        broker_url: str,
        routes: Mapping[str, int],
        settings: Mapping[str, Any] | None = None,
        module: str = "services.cli",
    ) -> None:
        self.folder = folder
        self._module = module
        self.broker_url = broker_url
        self.smtp_port = free_port()
        self.admin_ports = {name: free_port() for name in SERVICES}
        self.config = folder / "postroad.yaml"
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(yaml.safe_dump(_merge(self._defaults(routes), settings or {})))

    def _defaults(self, routes: Mapping[str, int]) -> dict[str, Any]:
        listener = {"address": "127.0.0.1", "port": self.smtp_port, "tls": "none", "auth": "none"}
        return {
            "hostname": "mta.example.net",
            "broker": {"url": self.broker_url},
            "content_store": {"url": f"file://{self.folder}/content"},
            "ingress": {"listeners": [{**listener, "relay_networks": ["127.0.0.0/8"]}]},
            "router": {
                "routes": [
                    {"domains": [domain], "hosts": [f"127.0.0.1:{port}"]}
                    for domain, port in routes.items()
                ]
            },
            "delivery": {
                "retry_schedule": ["1s", "1s", "2s"],
                "max_age": "10m",
                "heartbeat": "500ms",
            },
            "admin": {f"{name}_port": port for name, port in self.admin_ports.items()},
            "logging": {"format": "json"},
        }

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.abort()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.stop()
        else:
            await self.abort()

    async def start(self, names: Sequence[str] = SERVICES) -> None:
        """Start these services and wait until each is ready."""
        for name in names:
            await self._launch(name, "-m", self._module, _service(name))
        for name in names:
            await self.wait_ready(name)

    async def start_killing(self, name: str, at: str, nth: int = 1) -> None:
        """Start the service with a broker that kills it at a custody point.

        `at` is a point of `tests.support.killing_service`, reached for the `nth` time.
        """
        service = _service(name)
        await self._launch(name, "-m", "tests.support.killing_service", service, at, str(nth))
        await self.wait_ready(name)

    async def _launch(self, name: str, *arguments: str) -> None:
        port = str(self.admin_ports.setdefault(name, free_port()))
        own = {f"POSTROAD_ADMIN__{_service(name).upper()}_PORT": port}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                cwd=ROOT,
                env={**os.environ, "POSTROAD_CONFIG": str(self.config), **own},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def pid(self, name: str) -> int:
        """The process id of a service that was started."""
        return self._processes[name].pid

    @property
    def workers(self) -> list[str]:
        """The delivery workers that were started and have not ended."""
        return [n for n in self._processes if _service(n) == "delivery" and self.running(n)]

    def running(self, name: str) -> bool:
        """Whether the service was started and has not ended."""
        process = self._processes.get(name)
        return process is not None and process.returncode is None

    async def wait_ready(self, name: str) -> None:
        """Return once the service says it is ready; AssertionError if it ends before."""

        async def ready() -> bool:
            process = self._processes[name]
            assert process.returncode is None, f"{name} ended: {self.log_text(name)[-2000:]}"
            with contextlib.suppress(OSError):
                return (await self.get(name, "/readyz"))[0] == 200
            return False

        await eventually(ready, f"{name} is ready", START_TIMEOUT)

    async def get(self, name: str, path: str) -> tuple[int, str]:
        """Status and body of a path of the service's admin endpoint."""
        return await http_get(self.admin_ports[name], path)

    async def metrics(self, name: str) -> Metrics:
        """The service's metrics now."""
        return Metrics.parse((await self.get(name, "/metrics"))[1])

    def log_text(self, name: str) -> str:
        """Everything the service wrote, over all its starts."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def log_lines(self, name: str) -> list[dict[str, Any]]:
        """The structured lines of the log; ValueError for a line that is none."""
        return [json.loads(line) for line in self.log_text(name).splitlines()]

    async def wait_not_ready(self, name: str) -> str:
        """Return why not, once the service says that it is not ready."""
        said: list[str] = []

        async def not_ready() -> bool:
            status, why = await self.get(name, "/readyz")
            said[:] = [why.strip()]
            return status == 503

        await eventually(not_ready, f"{name} is not ready", START_TIMEOUT)
        return said[0]

    async def kill9(self, name: str) -> None:
        """SIGKILL, and wait until the process is gone."""
        self._processes[name].kill()
        await self.wait_killed(name)

    async def wait_killed(self, name: str, timeout: float = 30.0) -> None:
        """Return once the process has died of SIGKILL, whoever sent it."""
        async with asyncio.timeout(timeout):
            status = await self._processes[name].wait()
        assert status == -signal.SIGKILL, f"{name} ended with {status}: {self.log_text(name)}"

    async def restart(self, name: str) -> None:
        """Start the service again after it ended."""
        assert self._processes[name].returncode is not None, f"{name} still runs"
        await self.start([name])

    def pause(self, name: str) -> None:
        """SIGSTOP: the process is there and does nothing."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._processes[name].send_signal(signal.SIGCONT)

    def terminate(self, name: str) -> None:
        """SIGTERM, without waiting."""
        self._processes[name].terminate()

    async def wait_drained(self, name: str, timeout: float = 40.0) -> None:
        """Return once the process has ended by itself with exit code 0."""
        async with asyncio.timeout(timeout):
            status = await self._processes[name].wait()
        assert status == 0, f"{name} ended with {status}: {self.log_text(name)[-3000:]}"

    async def stop(self) -> None:
        """SIGTERM each running service, first to last; each must end with 0."""
        try:
            for name in ("ingress", "router", *self.workers):
                if self.running(name):
                    self.terminate(name)
                    await self.wait_drained(name)
        finally:
            await self.abort()

    async def abort(self) -> None:
        """Kill whatever still runs."""
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()
