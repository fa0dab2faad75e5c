"""Several ingress processes on one address: all take sessions, all drain, SIGHUP reaches all."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import yaml

from services.run import INGRESS_STEP
from tests.support.ingress import write_users
from tests.support.pipeline import Metrics, eventually, free_port, http_get
from tests.support.smtp_client import SmtpClient

TIMEOUT = 60.0


async def metrics(port: int) -> Metrics:
    return Metrics.parse((await http_get(port, "/metrics"))[1])


async def test_two_processes_share_an_address_and_end_together(tmp_path: Path) -> None:
    port, admin = free_port(), free_port()
    ports = (admin, admin + INGRESS_STEP)
    users = write_users(tmp_path, [{"username": "al", "password": "pw"}])
    listener = {"address": "127.0.0.1", "port": port, "tls": "none", "auth": "optional"}
    listener |= {"auth_without_tls": True, "relay_networks": ["127.0.0.0/8"]}
    settings = {
        "broker": {"url": f"embedded://{tmp_path}/broker"},
        "content_store": {"url": f"file://{tmp_path}/content"},
        "ingress": {"listeners": [listener], "credentials_file": str(users)},
        "admin": {"ingress_port": admin},
    }
    (tmp_path / "postroad.yaml").write_text(yaml.safe_dump(settings))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "ingress", "--processes", "2"),
        *("--config", str(tmp_path / "postroad.yaml")),
        env={k: v for k, v in os.environ.items() if not k.startswith("POSTROAD_")},
    )
    try:
        for one in ports:

            async def ready(one: int = one) -> bool:
                try:
                    return (await http_get(one, "/readyz"))[0] == 200
                except OSError:
                    return False

            await eventually(ready, f"{one} is ready", TIMEOUT)
        for _ in range(40):
            async with SmtpClient(port) as client:
                assert (await client.send("a@b.test", ["c@d.test"], b"x: y\r\n\r\n")).code == 250
        taken = [(await metrics(one))["postroad_accepted_messages_total"] for one in ports]
        assert sum(taken) == 40
        assert min(taken) > 0
        write_users(tmp_path, [{"username": "bo", "password": "pw"}])
        process.send_signal(signal.SIGHUP)
        for one in ports:

            async def renewed(one: int = one) -> bool:
                return (await metrics(one))['postroad_credentials_reloads_total{result="ok"}'] == 1

            await eventually(renewed, f"{one} knows the new user", TIMEOUT)
        process.terminate()
        async with asyncio.timeout(TIMEOUT):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
