"""A real ingress on a free port of loopback, in this process, on a broker in memory.

async with running_ingress(tmp_path) as ingress:
    ...  # ingress.port, ingress.broker, ingress.accepted()
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import argon2
import yaml

from services.ingress.main import Ingress, build
from shared.broker.topology import ACCEPTED
from shared.messages.codec import decode
from shared.messages.model import AcceptedMail
from shared.settings.model import Settings
from tests.support.memory_broker import MemoryBroker

OPEN = {
    "address": "127.0.0.1",
    "port": 0,
    "tls": "none",
    "auth": "none",
    "relay_networks": ["127.0.0.0/8"],
}
"""A listener without TLS and AUTH, for whoever is on this machine."""


def ingress_settings(folder: Path, listener: Mapping[str, Any] = OPEN, **ingress: Any) -> Settings:
    """Settings with one listener and its files in `folder`."""
    return Settings.model_validate(
        {
            "hostname": "mta.example.net",
            "content_store": {"url": f"file://{folder}/content", "inline_max_bytes": 65536},
            "ingress": {"listeners": [listener], **ingress},
        }
    )


class RunningIngress:
    """The service, its broker, and what it has taken."""

    def __init__(self, service: Ingress, broker: MemoryBroker) -> None:
        self.service = service
        self.broker = broker

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.service.addresses[0][1]

    def accepted(self) -> list[AcceptedMail]:
        """All mail that was published so far."""
        mails = [decode(message.body) for message in self.broker.published_to(ACCEPTED)]
        return [mail for mail in mails if isinstance(mail, AcceptedMail)]


@asynccontextmanager
async def running_ingress(
    folder: Path, settings: Settings | None = None, broker: MemoryBroker | None = None
) -> AsyncIterator[RunningIngress]:
    """An ingress that is drained at the end."""
    broker = broker or MemoryBroker()
    service = build(settings or ingress_settings(folder), broker)
    await broker.start()
    await service.start()
    try:
        yield RunningIngress(service, broker)
    finally:
        broker.resume()
        await service.drain()
        await broker.close()


def write_users(folder: Path, users: Sequence[Mapping[str, Any]]) -> Path:
    """A credentials file in which each `password` is replaced by its hash, cheap to check."""
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    entries = [
        {key: value for key, value in user.items() if key != "password"}
        | {"password_hash": hasher.hash(user["password"])}
        for user in users
    ]
    path = folder / "users.yaml"
    path.write_text(yaml.safe_dump(entries))
    return path
