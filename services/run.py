"""`postroad run`: the three services as processes of one group, on one machine.

It decides which processes there are and where their data lies when the configuration does not
say. Each service is the same command that runs alone elsewhere; nothing is shared but the broker.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from services.supervisor import Child, Supervisor
from shared.logs import configure_logging
from shared.settings.load import load_settings
from shared.settings.model import Settings

DELIVERY_PORT = "POSTROAD_ADMIN__DELIVERY_PORT"
REPORT_TIME = 2.0
"""Seconds beyond a service's grace, in which it can say itself that the grace is over."""


def run_all(config: Path | None, workers: int) -> int:
    """Run ingress, router and `workers` delivery workers until SIGTERM or SIGINT.

    Returns the exit code (see `Supervisor.run`). Raises `ConfigError`.
    """
    settings = load_settings(config)
    configure_logging(settings.logging)
    environment = {**os.environ, **local_places(settings, Path.cwd())}
    children = plan_children(settings, config, workers, environment)
    grace = settings.shutdown_grace / 1000 + REPORT_TIME
    return asyncio.run(_supervise(Supervisor(children, grace)))


def local_places(settings: Settings, directory: Path) -> dict[str, str]:
    """Variables that put queues and contents under `directory`/var, where not configured."""
    places = {}
    if "url" not in settings.broker.model_fields_set:
        places["POSTROAD_BROKER__URL"] = f"embedded://{directory}/var/broker"
    if "url" not in settings.content_store.model_fields_set:
        places["POSTROAD_CONTENT_STORE__URL"] = f"file://{directory}/var/content"
    return places


def plan_children(
    settings: Settings, config: Path | None, workers: int, environment: Mapping[str, str]
) -> list[Child]:
    """The processes, in the order in which they are stopped.

    Delivery worker n listens for metrics on `admin.delivery_port` + n - 1.
    """
    children = [
        Child(name, service_command(name, config), environment) for name in ("ingress", "router")
    ]
    for number in range(workers):
        base = settings.admin.delivery_port
        port = {DELIVERY_PORT: str(base + number)} if base and number else {}
        name = f"delivery-{number + 1}" if workers > 1 else "delivery"
        children.append(Child(name, service_command("delivery", config), {**environment, **port}))
    return children


def service_command(name: str, config: Path | None) -> tuple[str, ...]:
    """How to start one service with this interpreter."""
    # -P: a folder called "services" in the current directory must not be taken for ours.
    command = (sys.executable, "-P", "-m", "services.cli", name)
    return (*command, "--config", str(config)) if config else command


async def _supervise(supervisor: Supervisor) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, supervisor.stop)
    return await supervisor.run()
