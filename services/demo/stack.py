"""The processes of a demo: the three services with a configuration of their own, and receivers.

It writes the configuration, starts, watches, asks the admin endpoints and stops. Every process
gets a group of its own, so that Ctrl-C reaches the demo only, which then stops them in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from services.run import service_command
from shared.settings.load import load_settings

SERVICES = ("ingress", "router", "delivery")
RETRY_SCHEDULE = ["1s", "2s", "5s"]
READY_TIMEOUT = 60.0
STOP_TIMEOUT = 35.0
HTTP_TIMEOUT = 5.0
_PARKED = re.compile(r"^postroad_parked_messages_total\{[^}]*\} (\S+)$", re.MULTILINE)


class StackError(Exception):
    """The demo cannot go on; the text says why and where to look."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [sock.getsockname()[1] for sock in sockets]


def configuration(
    folder: Path, broker: str | None, receivers: Mapping[str, int], ports: list[int]
) -> dict[str, Any]:
    """The configuration of a demo under `folder`; `ports`: ingress's and the three admin ones."""
    return {
        "hostname": "demo.postroad.test",
        "broker": {"url": broker or f"embedded://{folder}/broker"},
        "content_store": {"url": f"file://{folder}/content"},
        "ingress": {
            "listeners": [
                {
                    "address": "127.0.0.1",
                    "port": ports[0],
                    "tls": "none",
                    "auth": "none",
                    "relay_networks": ["127.0.0.0/8"],
                }
            ]
        },
        "router": {
            "routes": [
                {"domains": [domain], "hosts": [f"127.0.0.1:{port}"]}
                for domain, port in receivers.items()
            ]
        },
        "delivery": {"retry_schedule": RETRY_SCHEDULE},
        "admin": {
            "address": "127.0.0.1",
            **{f"{name}_port": port for name, port in zip(SERVICES, ports[1:], strict=True)},
        },
        "logging": {"format": "json"},
        "shutdown_grace": "30s",
    }


def broker_name(broker: str | None) -> str:
    """The broker for people to read, without user and password."""
    if broker is None:
        return "on the embedded broker"
    url = urlsplit(broker)
    return f"on {url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


class Stack:
    """The three services; start them once, then `stop` them. Raises `ConfigError`."""

    def __init__(self, folder: Path, broker: str | None, receivers: Mapping[str, int]) -> None:
        self.logs = folder / "logs"
        self.port, *admin = self._ports = free_ports(4)
        self._admin = dict(zip(SERVICES, admin, strict=True))
        self._config = folder / "postroad.yaml"
        settings = configuration(folder, broker, receivers, self._ports)
        self._config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        self.settings = load_settings(self._config)
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    def log(self, name: str) -> Path:
        """The log file of a service."""
        return self.logs / f"{name}.log"

    async def start(self) -> None:
        """Start the services; returns when all are ready. Raises `StackError`."""
        self.logs.mkdir()
        # Variables would override the demo's own configuration.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("POSTROAD_")}
        for name in SERVICES:
            with self.log(name).open("wb") as log:
                self._processes[name] = await asyncio.create_subprocess_exec(
                    *service_command(name, self._config),
                    env=environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                )
        await self._wait_ready()

    async def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        waiting = dict.fromkeys(SERVICES, "no answer")
        while waiting:
            self.check()
            if time.monotonic() > deadline:
                raise StackError(f"not ready after {READY_TIMEOUT:.0f} s: {waiting}")
            for name in tuple(waiting):
                status, body = await self._get(name, "/readyz")
                waiting[name] = body.strip()
                if status == 200:
                    del waiting[name]
            await asyncio.sleep(0.05)

    def check(self) -> None:
        """Raise `StackError` if a service has ended."""
        for name, process in self._processes.items():
            if process.returncode is not None:
                last = self.log(name).read_text(encoding="utf-8", errors="replace")[-2000:]
                raise StackError(f"{name} ended with {process.returncode}; its last words:\n{last}")

    async def parked(self) -> int:
        """Messages that the services have parked, by their own metrics."""
        pages = [await self._get(name, "/metrics") for name in SERVICES]
        return sum(int(float(value)) for _, page in pages for value in _PARKED.findall(page))

    async def _get(self, name: str, path: str) -> tuple[int, str]:
        """Status and body; status 0 if nobody answers in time."""
        try:
            async with asyncio.timeout(HTTP_TIMEOUT):
                return await _http_get(self._admin[name], path)
        except (OSError, ValueError):
            return 0, "no answer"

    async def stop(self) -> dict[str, int]:
        """SIGTERM to all, in order; their exit codes. Who does not end is killed."""
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        codes = await asyncio.gather(*map(_ended, self._processes.values()))
        return dict(zip(self._processes, codes, strict=True))


async def _ended(process: asyncio.subprocess.Process) -> int:
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()


async def _http_get(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), body.decode()
    except IndexError as error:
        raise ValueError("no HTTP reply") from error
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def receivers_process() -> AsyncIterator[asyncio.subprocess.Process]:
    """The process of `services.demo.receivers`; it ends when the block does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "services.demo.receivers"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        process_group=0,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        await _ended(process)
