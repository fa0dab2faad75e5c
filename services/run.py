"""`postroad run`: the three services as processes of one group, on one machine.

`postroad ingress --processes` is kept in the same way. This decides which processes there are and
where their data lies when the configuration does not say. Each service is the same command that
runs alone elsewhere; nothing is shared but the broker.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.supervisor import Child, Supervisor
from shared.logs import configure_logging
from shared.settings.load import ConfigError, load_settings
from shared.settings.model import Settings

ADMIN_PORT = "POSTROAD_ADMIN__{}_PORT"
DELIVERY_PORT = ADMIN_PORT.format("DELIVERY")
SHARE_PORTS = "POSTROAD_INGRESS__SHARE_PORTS"
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
    return _run(settings, children)


def run_ingress(config: Path | None, processes: int) -> int:
    """Run so many ingress processes on the same addresses until SIGTERM or SIGINT.

    Returns the exit code (see `Supervisor.run`). Raises `ConfigError`.
    """
    settings = load_settings(config)
    for number, listener in enumerate(settings.ingress.listeners):
        if not listener.port:
            raise ConfigError(f"ingress.listeners.{number}.port: 0 cannot be shared by processes")
    configure_logging(settings.logging)
    environment = {**os.environ, SHARE_PORTS: "true"}
    port = settings.admin.ingress_port
    return _run(settings, _several("ingress", processes, port, config, environment))


def _run(settings: Settings, children: Sequence[Child]) -> int:
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
    port = settings.admin.delivery_port
    return [*children, *_several("delivery", workers, port, config, environment)]


def _several(
    service: str, count: int, base: int, config: Path | None, environment: Mapping[str, str]
) -> list[Child]:
    """Process n of a service has the admin port `base` + n - 1; free ones where that is 0."""
    children = []
    for number in range(count):
        port = {ADMIN_PORT.format(service.upper()): str(base + number)} if base and number else {}
        name = f"{service}-{number + 1}" if count > 1 else service
        children.append(Child(name, service_command(service, config), {**environment, **port}))
    return children


def service_command(name: str, config: Path | None) -> tuple[str, ...]:
    """How to start one service with this interpreter."""
    # -P: a folder called "services" in the current directory must not be taken for ours.
    command = (sys.executable, "-P", "-m", "services.cli", name)
    return (*command, "--config", str(config)) if config else command


async def _supervise(supervisor: Supervisor) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, supervisor.stop)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, supervisor.hang_up)
    return await supervisor.run()
