from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.events.store import StoredEvents
from services.run import INGRESS_STEP
from tests.support.pipeline import eventually, free_port, http_get
from tests.support.smtp_client import SmtpClient

TIMEOUT = 60.0


class Running:
    """`postroad run` in a folder of its own."""

    def __init__(self, process: asyncio.subprocess.Process, ports: dict[str, int]) -> None:
        self.process, self.ports = process, ports

    async def ready(self, port: int) -> bool:
        assert self.process.returncode is None
        with suppress(OSError):
            return (await http_get(port, "/readyz"))[0] == 200
        return False

    async def wait_ready(self, *more_ports: int) -> None:
        for port in (*self.ports.values(), *more_ports):
            await eventually(lambda port=port: self.ready(port), "ready", TIMEOUT)  # type: ignore[misc]

    async def end(self) -> int:
        async with asyncio.timeout(TIMEOUT):
            return await self.process.wait()


@asynccontextmanager
async def run(
    folder: Path, *arguments: str, settings: dict[str, Any] | None = None
) -> AsyncIterator[Running]:
    ports = {f"{name}_port": free_port() for name in ("ingress", "router", "delivery")}
    listener = {"address": "127.0.0.1", "port": free_port(), "tls": "none", "auth": "none"}
    values = {
        "ingress": {"listeners": [{**listener, "relay_networks": ["127.0.0.0/8"]}]},
        "admin": ports,
        **(settings or {}),
    }
    (folder / "postroad.yaml").write_text(yaml.safe_dump(values))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli", "run", "--config", "postroad.yaml"),
            *arguments,
            cwd=folder,
            env={k: v for k, v in os.environ.items() if not k.startswith("POSTROAD_")},
            stdout=log,
            stderr=log,
        )
    try:
        yield Running(process, ports)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


@pytest.mark.slow
async def test_run_starts_all_three_under_var_and_sigterm_ends_them_well(tmp_path: Path) -> None:
    async with run(tmp_path) as running:
        await running.wait_ready()
        assert (tmp_path / "var" / "broker").is_dir()
        running.process.send_signal(signal.SIGTERM)
        assert await running.end() == 0, (tmp_path / "log").read_text()


@pytest.mark.slow
async def test_run_keeps_events_of_mail_until_the_last_is_told(tmp_path: Path) -> None:
    port, store = free_port(), tmp_path / "events.sqlite3"
    listener = {"address": "127.0.0.1", "port": port, "tls": "none", "auth": "none"}
    settings = {
        "ingress": {"listeners": [{**listener, "relay_networks": ["127.0.0.0/8"]}]},
        "router": {"routes": [{"domains": ["*"], "hosts": ["127.0.0.1:9"]}]},
        "events": {"store": {"path": str(store)}, "publish": "always"},
    }
    async with run(tmp_path, settings=settings) as running:
        await running.wait_ready()
        await eventually(lambda: _exists(store), "the store is there", TIMEOUT)
        async with SmtpClient(port) as client:
            answer = await client.send("a@a.test", ["b@b.test"], b"Subject: x\r\n\r\n")
        mail_id = answer.text.rpartition(" ")[2]
        await eventually(lambda: _kept(store, mail_id), "the store has all of it", TIMEOUT)
        running.process.send_signal(signal.SIGTERM)
        assert await running.end() == 0, (tmp_path / "log").read_text()


async def _exists(path: Path) -> bool:
    return path.is_file()


async def _kept(store: Path, mail_id: str) -> bool:
    with StoredEvents(store) as stored:
        kinds = [event.event for event in stored.story(mail_id)]
    return kinds == ["accepted", "routed", "attempted", "deferred"]


@pytest.mark.slow
async def test_further_processes_listen_on_ports_of_their_own(tmp_path: Path) -> None:
    async with run(tmp_path, "--workers", "2", "--ingress", "2") as running:
        more = running.ports["delivery_port"] + 1, running.ports["ingress_port"] + INGRESS_STEP
        await running.wait_ready(*more)
        running.process.send_signal(signal.SIGINT)
        assert await running.end() == 0, (tmp_path / "log").read_text()


@pytest.mark.slow
async def test_a_port_in_use_stops_all_with_exit_2_and_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = {"admin": {"router_port": port, "ingress_port": 0, "delivery_port": 0}}
        async with run(tmp_path, settings=settings) as running:
            assert await running.end() == 2
    assert f"admin.router_port: {port}" in (tmp_path / "log").read_text()


async def test_a_wrong_configuration_is_one_line_and_exit_2(tmp_path: Path) -> None:
    async with run(tmp_path, settings={"brokre": {}}) as running:
        assert await running.end() == 2
    assert (tmp_path / "log").read_text() == "postroad: brokre: unknown key\n"
