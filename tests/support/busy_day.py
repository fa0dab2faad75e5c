"""A day of an installation in half a minute: every kind of receiver, and mail for all of them.

Providers are what they are elsewhere: by the names of exchangers, which a DNS server of our own
gives. google takes everything; microsoft greylists, and refuses some by policy; yahoo is slow and
limited; small.test is good, offers TLS and does not know some mailboxes; away.test answers nobody;
hangs.test takes contents and says nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
import yaml

from services.demo.receiver import Receiver
from services.demo.script import Greylist, Script, Stage
from services.ingress.passwords import hash_password
from shared.smtp.replies import Reply
from tests.support.dns_authority import DnsAuthority, Zone, serving
from tests.support.pipeline import Pipeline, eventually, free_port
from tests.support.smtp_client import MAIL_TROUBLE, SmtpClient

SECOND = "delivery-2"
"""A worker that has an admin port from the beginning, and comes later."""
POLICY = Reply(550, "5.7.1", "Blocked, see https://sender.support.example/")
BUSY = Reply(421, "4.7.0", "Too many connections, slow down")
MX = {
    "gmail.test": "aspmx.l.google.com.",
    "outlook.test": "outlook-test.mail.protection.outlook.com.",
    "yahoo.test": "mta5.am0.yahoodns.net.",
    "small.test": "mx.small.test.",
    "away.test": "mx.away.test.",
    "hangs.test": "mx.hangs.test.",
}
GOOD = {
    "gmail.test": Script(),
    "outlook.test": Script(recipients={"blocked@": POLICY}, greylist=Greylist(prefix="new")),
    "yahoo.test": Script(delays={Stage.DOT: 0.05}),
    "small.test": Script(refused=frozenset({"nobody@"})),
    "hangs.test": Script(drop_at=frozenset({Stage.DOT})),
}
WEIGHTS = {
    "user@gmail.test": 40, "user@outlook.test": 20, "new@outlook.test": 6,
    "blocked@outlook.test": 2, "user@yahoo.test": 20, "user@small.test": 10,
    "nobody@small.test": 3, "user@away.test": 3,
}  # fmt: skip


@dataclass
class Day:
    """What runs, and how to send through it. Receivers are by domain; away.test has none."""

    pipeline: Pipeline
    login_port: int
    receivers: dict[str, Receiver]
    _numbers: itertools.count[int]
    _random: random.Random

    @asynccontextmanager
    async def load(self, a_second: float) -> AsyncIterator[None]:
        """Mixed mail over 8 sessions for the length of the block: so many mails a second."""

        async def session() -> None:
            while True:
                try:
                    async with SmtpClient(self.pipeline.smtp_port) as client:
                        while True:
                            await self._one(client)
                            await asyncio.sleep(8 / a_second * self._random.uniform(0.5, 1.5))
                except MAIL_TROUBLE:
                    await asyncio.sleep(0.1)

        sessions = [asyncio.create_task(session()) for _ in range(8)]
        try:
            yield
        finally:
            for task in sessions:
                task.cancel()
            await asyncio.gather(*sessions, return_exceptions=True)

    async def _one(self, client: SmtpClient) -> None:
        paths = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=1)
        await self.send(client, paths, bulk=self._random.random() < 0.4)

    async def send(self, client: SmtpClient, paths: Sequence[str], *, bulk: bool = False) -> None:
        """One mail to new addresses that begin like `paths`."""
        number = next(self._numbers)
        to = [
            path if path.startswith(("nobody", "blocked")) else path.replace("@", f"{number}@")
            for path in paths
        ]
        kind = b"X-Postroad-Class: bulk\r\n" if bulk else b""
        text = b"Subject: day\r\n" + kind + b"\r\n" + b"x" * 70 * self._random.randrange(1, 200)
        lines = b"\r\n".join(text[at : at + 900] for at in range(0, len(text), 900)) + b"\r\n"
        await client.send("shop@sender.test", to, lines)

    async def hours(self) -> AsyncIterator[str]:
        """What happens, one thing after the other; each leaves its trace in metrics."""
        yield "as usual"
        await self.pipeline.start([SECOND])
        yield "a second worker"
        await self.trouble()
        yield "uncertain outcomes"
        await self.seen("postroad_parked_waiting", "ingress")
        google = self.receivers["gmail.test"]
        google.script = Script(delays={Stage.DOT: 5})
        yield "google is slow"
        await self.seen("postroad_queued_jobs", "delivery", SECOND)
        google.script = Script()
        yield "google is well"
        self.pipeline.pause("router")
        yield "the router stands still"
        await self.seen("postroad_accepted_waiting", "ingress")
        self.pipeline.resume("router")
        yield "the router goes on"
        await self.changed_files()
        yield "yahoo's limit is raised"
        await self.seen("postroad_crowd_jobs_total", "delivery", SECOND)

    async def seen(self, name: str, *services: str) -> None:
        """Return once one of the services shows it above 0; depths are looked at every 15 s."""

        async def shown() -> bool:
            await asyncio.sleep(0.2)
            return any([(await self.pipeline.metrics(one)).total(name) for one in services])

        await eventually(shown, f"{name} is above 0", 40)

    async def trouble(self) -> None:
        """What happens once in a while: uncertain outcomes, a loop of ours, wrong commands."""
        async with SmtpClient(self.pipeline.smtp_port) as client:
            await self.send(client, ["user@hangs.test"])
            await self.send(client, ["user@hangs.test"], bulk=True)
            for line in ("MAIL FROM:<@>", "RCPT TO:<nobody>"):
                await client.command(line)
        async with SmtpClient(self.login_port) as client:
            await client.command("AUTH PLAIN AHNob3AAd3Jvbmc=")

    async def changed_files(self) -> None:
        """A configuration that cannot be used, and then a good one again."""
        good = self.pipeline.config.read_text("utf-8")
        limit = "messages_per_second: 10"
        assert limit in good
        for better, result in (("messages_per_second: many", "failed"), (f"{limit}0", "ok")):
            self.pipeline.config.write_text(good.replace(limit, better), "utf-8")
            await self._reads_of_configuration(result)

    async def _reads_of_configuration(self, result: str) -> None:
        sample = f'postroad_config_reloads_total{{result="{result}"}}'

        async def read() -> bool:
            return (await self.pipeline.metrics("delivery"))[sample] > 0

        await eventually(read, f"the changed file is read: {result}")


def _zone() -> Zone:
    zone: Zone = {}
    for number, (domain, exchanger) in enumerate(MX.items(), 1):
        zone[f"{domain}.", "MX"] = [f"10 {exchanger}"]
        zone[exchanger, "A"] = [f"127.0.1.{number}"]
    return zone


def _server_tls(folder: Path) -> dict[str, str]:
    leaf = trustme.CA().issue_cert("mta.example.net")
    leaf.private_key_pem.write_to_path(folder / "tls.key")
    for pem in leaf.cert_chain_pems:
        pem.write_to_path(folder / "tls.crt", append=True)
    return {"certificate": str(folder / "tls.crt"), "key": str(folder / "tls.key")}


def _settings(folder: Path, smtp_port: int, dns: Any, tls: dict[str, str]) -> dict[str, Any]:
    return {
        "ingress": {"tls": tls},
        "dns": dns.model_dump(),
        "metrics": {"domains": ["gmail.test", "outlook.test"]},
        "delivery": {
            "smtp_port": smtp_port,
            "allow_private_addresses": True,
            "retry_schedule": ["1s", "2s", "5s"],
            "max_age": "12s",
            "prefetch": 20,
            "uncertain": "hold",
        },
        "lanes": [
            {"name": "google", "match": {"providers": ["google"]}, "partitions": 2},
            {"name": "default", "partitions": 4},
        ],
        "limits": {
            "overrides": [
                {"match": {"providers": ["yahoo"]}, "connections": 2, "messages_per_second": 10}
            ]
        },
    }


@asynccontextmanager
async def day(folder: Path) -> AsyncIterator[Day]:
    """Everything started on the embedded broker, with one delivery worker."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        dns = await stack.enter_async_context(serving(DnsAuthority(_zone())))
        port = free_port()
        receivers = {
            domain: await stack.enter_async_context(
                Receiver(script, host=_address(domain), port=port, keep="headers", tls=_tls(domain))
            )
            for domain, script in GOOD.items()
        }
        home = await stack.enter_async_context(Receiver(keep="headers"))
        settings = _settings(folder, port, dns, _server_tls(folder))
        pipeline = Pipeline(
            folder, f"embedded://{folder}/broker", {"sender.test": home.port}, settings
        )
        login_port = _add_logins(pipeline)
        pipeline.admin_ports[SECOND] = free_port()
        await stack.enter_async_context(pipeline)
        yield Day(pipeline, login_port, receivers, itertools.count(1), random.Random(7))


def _add_logins(pipeline: Pipeline) -> int:
    """A listener with users, who have to use TLS; returns its port."""
    settings = yaml.safe_load(pipeline.config.read_text("utf-8"))
    users = pipeline.folder / "credentials.yaml"
    users.write_text(yaml.safe_dump([{"username": "shop", "password_hash": hash_password("x")}]))
    port = free_port()
    login = {"address": "127.0.0.1", "port": port, "tls": "starttls", "auth": "required"}
    settings["ingress"]["listeners"].append(login)
    settings["ingress"]["credentials_file"] = str(users)
    pipeline.config.write_text(yaml.safe_dump(settings), "utf-8")
    return port


def _address(domain: str) -> str:
    return f"127.0.1.{[*MX].index(domain) + 1}"


def _tls(domain: str) -> ssl.SSLContext | None:
    if domain != "small.test":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.small.test").configure_cert(context)
    return context
