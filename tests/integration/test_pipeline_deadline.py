"""A deadline from a user's MAIL through three real processes (RFC 2852)."""

from __future__ import annotations

import base64
from pathlib import Path

from services.demo.receiver import Receiver
from services.demo.script import Script
from tests.support.ingress import write_users
from tests.support.pipeline import Pipeline, free_port
from tests.support.smtp_client import SmtpClient

LOGIN = base64.b64encode(b"\0al\0pw").decode()
CONTENT = b"From: <me@sender.test>\r\nSubject: x\r\n\r\nbody\r\n"


async def submit(client: SmtpClient, recipient: str, by: str) -> None:
    assert (await client.command(f"MAIL FROM:<me@sender.test> BY={by}")).code == 250
    assert (await client.command(f"RCPT TO:<{recipient}>")).code == 250
    assert (await client.command("DATA")).code == 354
    await client.write(CONTENT + b".\r\n")
    assert (await client.reply()).code == 250


async def test_a_deadline_is_passed_on_kept_or_returned(tmp_path: Path) -> None:
    users = write_users(tmp_path, [{"username": "al", "password": "pw"}])
    promises, silent = Receiver(Script(shown=("DELIVERBY",))), Receiver(Script())
    port = free_port()
    listener: dict[str, object] = {
        "address": "127.0.0.1",
        "port": port,
        "tls": "none",
        "auth": "required",
    }
    listener["auth_without_tls"] = True
    ingress = {"listeners": [listener], "credentials_file": str(users)}
    async with promises, silent, Receiver() as home:
        ports = {"promises.test": promises.port, "silent.test": silent.port}
        ports["sender.test"] = home.port
        async with (
            Pipeline(tmp_path / "p", f"embedded://{tmp_path}/b", ports, {"ingress": ingress}),
            SmtpClient(port) as client,
        ):
            assert (await client.command(f"AUTH PLAIN {LOGIN}")).code == 235
            assert "DELIVERBY 10" in (await client.command("EHLO client.example")).text
            await submit(client, "a@promises.test", "600;R")
            await submit(client, "b@silent.test", "600;R")
            (kept,) = await promises.wait_for(1, timeout=20)
            assert set(kept.mail_parameters) & {f"BY={left};R" for left in range(500, 600)}
            (notice,) = await home.wait_for(1, timeout=20)
            assert b"b@silent.test\r\nAction: failed\r\nStatus: 5.3.3" in notice.content
            assert b"Deliver-By-Date: " in notice.content
            assert not silent.messages
