"""The life of a service process: start, serve, drain on SIGTERM, exit.

A service gives three things: `start`, `drain` and `ready`. Everything they share (loop, logs,
broker, admin endpoint, signals, exit codes) is here.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Protocol

import uvloop

from shared import metrics
from shared.admin import AdminServer
from shared.broker.connect import connect_broker
from shared.broker.interface import Broker
from shared.logs import configure_logging, get_logger
from shared.settings.load import ConfigError
from shared.settings.model import Settings


class Service(Protocol):
    """What one of the three services gives to `run_service`."""

    name: str

    async def start(self) -> None:
        """Begin to work. Raises `ConfigError` when it cannot (a port in use, a missing file)."""

    def ready(self) -> str:
        """Empty when work is welcome, else why not."""

    async def drain(self) -> None:
        """Take nothing new, finish what has begun, give the rest back."""


class ServiceFactory(Protocol):
    """Builds a service; nothing listens and nothing connects yet."""

    def __call__(self, settings: Settings, broker: Broker) -> Service:
        """Raises `ConfigError` for settings that cannot work."""


def run_service(name: str, factory: ServiceFactory, settings: Settings, admin_port: int) -> int:
    """Run one service until SIGTERM or SIGINT; returns the exit code.

    0 after a complete drain, 1 when the grace ran out. Raises `ConfigError`.
    """
    configure_logging(settings.logging)
    return uvloop.run(_run(name, factory, settings, admin_port))


async def _run(name: str, factory: ServiceFactory, settings: Settings, admin_port: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker = connect_broker(settings, name)
    service = factory(settings, broker)
    admin = AdminServer(settings.admin.address, admin_port, lambda: _why_not(stop, broker, service))
    try:
        port = await admin.start()
    except OSError as error:
        raise ConfigError(f"admin.{name}_port: {admin_port}: {error.strerror}") from error
    try:
        await broker.start()
        await service.start()
        get_logger().info("started", service=name, admin_port=port)
        await stop.wait()
        get_logger().info("draining", service=name)
        return await _drain(service, broker, settings.shutdown_grace / 1000)
    finally:
        await admin.close()


def _why_not(stop: asyncio.Event, broker: Broker, service: Service) -> str:
    metrics.broker_usable.set(broker.usable)
    if stop.is_set():
        return "draining"
    if not broker.usable:
        return "broker blocked" if broker.blocked else "broker not usable"
    return service.ready()


async def _drain(service: Service, broker: Broker, grace: float) -> int:
    try:
        async with asyncio.timeout(grace):
            await service.drain()
            await broker.close()
    except TimeoutError:
        get_logger().error("grace is over", grace_seconds=grace)
        return 1
    return 0
