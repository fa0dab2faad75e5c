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
INGRESS_STEP = 100
"""From one ingress process's admin port to the next: those of router and delivery lie between."""
LAST_PORT = 65_535
REPORT_TIME = 2.0
"""Seconds beyond a service's grace, in which it can say itself that the grace is over."""


def run_all(config: Path | None, workers: int, ingress: int = 1) -> int:
    """Run `ingress` processes, a router and `workers` delivery workers until SIGTERM or SIGINT.

    Returns the exit code (see `Supervisor.run`). Raises `ConfigError`.
    """
    settings = load_settings(config)
    configure_logging(settings.logging)
    environment = {**os.environ, **local_places(settings, Path.cwd())}
    children = plan_children(settings, config, workers, environment, ingress)
    return _run(settings, children)


def run_ingress(config: Path | None, processes: int) -> int:
    """Run so many ingress processes on the same addresses until SIGTERM or SIGINT.

    Returns the exit code (see `Supervisor.run`). Raises `ConfigError`.
    """
    settings = load_settings(config)
    children = _ingress(settings, processes, config, os.environ)
    configure_logging(settings.logging)
    return _run(settings, children)


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


def settings_here(config: Path | None) -> Settings:
    """The settings of those that run on this machine. Raises `ConfigError`.

    Where the configuration does not say where the queues are, and `postroad run` has put them under
    the current directory, they are there.
    """
    settings = load_settings(config)
    folder = Path.cwd() / "var" / "broker"
    if "url" in settings.broker.model_fields_set or not folder.is_dir():
        return settings
    broker = settings.broker.model_copy(update={"url": f"embedded://{folder}"})
    return settings.model_copy(update={"broker": broker})


def plan_children(
    settings: Settings,
    config: Path | None,
    workers: int,
    environment: Mapping[str, str],
    ingress: int = 1,
) -> list[Child]:
    """The processes, in the order in which they are stopped.

    Delivery worker n listens for metrics on `admin.delivery_port` + n - 1, ingress process n on
    `admin.ingress_port` + 100 (n - 1). Raises `ConfigError`.
    """
    return [
        *_ingress(settings, ingress, config, environment),
        Child("router", service_command("router", config), environment),
        *_several("delivery", workers, (settings.admin.delivery_port, 1), config, environment),
        *_event_store(settings, config, environment),
    ]


def _event_store(
    settings: Settings, config: Path | None, environment: Mapping[str, str]
) -> list[Child]:
    if settings.events.store.path is None:
        return []
    return [Child("event-store", service_command("event-store", config), environment)]


def _ingress(
    settings: Settings, count: int, config: Path | None, environment: Mapping[str, str]
) -> list[Child]:
    if count > 1:
        environment = {**environment, SHARE_PORTS: "true"}
        for number, listener in enumerate(settings.ingress.listeners):
            if not listener.port:
                where = f"ingress.listeners.{number}.port"
                raise ConfigError(f"{where}: 0 cannot be shared by processes")
    ports = (settings.admin.ingress_port, INGRESS_STEP)
    return _several("ingress", count, ports, config, environment)


def _several(
    service: str,
    count: int,
    ports: tuple[int, int],
    config: Path | None,
    environment: Mapping[str, str],
) -> list[Child]:
    """Each has its own admin port, of which the first and the step are given; 0 is a free one.

    Raises `ConfigError` where there are not so many.
    """
    first, step = ports
    if first and first + step * (count - 1) > LAST_PORT:
        setting = f"admin.{service}_port"
        raise ConfigError(f"{setting}: {first} leaves no ports for {count} processes")
    children = []
    for number in range(count):
        port = first + step * number
        own = {ADMIN_PORT.format(service.upper()): str(port)} if first and number else {}
        name = f"{service}-{number + 1}" if count > 1 else service
        children.append(Child(name, service_command(service, config), {**environment, **own}))
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
