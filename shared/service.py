"""The life of a service process: start, serve, drain on SIGTERM, exit.

A service gives three things: `start`, `drain` and `ready`. Everything they share (loop, logs,
broker, admin endpoint, signals, exit codes) is here.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, runtime_checkable

import uvloop

from shared import metrics
from shared.admin import AdminServer
from shared.broker.connect import connect_broker
from shared.broker.interface import Broker
from shared.broker.topology import WAIT_STEPS_MS
from shared.catalogue import INGRESS, Configured, registry_of, start_at_zero
from shared.depths import DepthWatch, Serving, no_lanes, steps_of
from shared.logs import configure_logging, get_logger
from shared.loop_lag import LoopLag
from shared.plan.providers import provider_names
from shared.settings.load import ConfigError
from shared.settings.model import Settings
from shared.settings.public import public_settings
from shared.settings.reload import Live, SettingsWatch
from shared.settings.shaping import LimitsSettings
from shared.settings.units import format_duration


class Service(Protocol):
    """What one of the three services gives to `run_service`."""

    name: str

    async def start(self) -> None:
        """Begin to work. Raises `ConfigError` when it cannot (a port in use, a missing file)."""

    def ready(self) -> str:
        """Empty when work is welcome, else why not."""

    async def drain(self) -> None:
        """Take nothing new, finish what has begun, give the rest back."""


@runtime_checkable
class Limited(Protocol):
    """A service that takes up new limits while it runs."""

    def set_limits(self, limits: LimitsSettings) -> None:
        """From now on these hold."""


@runtime_checkable
class Renewing(Protocol):
    """A service that takes up changed files while it runs."""

    def look_again(self) -> None:
        """Look at them now."""


class ServiceFactory(Protocol):
    """Builds a service; nothing listens and nothing connects yet."""

    def __call__(self, settings: Settings, broker: Broker) -> Service:
        """Raises `ConfigError` for settings that cannot work."""


LAST_MOMENT = 1.0
"""Seconds the broker has for its leave when the grace is over or the start failed."""


def run_service(
    name: str,
    factory: ServiceFactory,
    settings: Settings,
    admin_port: int,
    *,
    lanes: Collection[str] | None = None,
    config: Path | None = None,
) -> int:
    """Run one service until SIGTERM or SIGINT; returns the exit code.

    It uses the queues of `lanes`, None: of all. The file `config`, from which `settings` came, is
    watched, and read again at once on SIGHUP. 0 after a complete drain, 1 when the grace ran out.
    Raises `ConfigError`.
    """
    configure_logging(settings.logging, name)
    get_logger().info("configuration", settings=public_settings(settings))
    return uvloop.run(_run(name, factory, settings, admin_port, lanes=lanes, config=config))


async def _run(
    name: str,
    factory: ServiceFactory,
    settings: Settings,
    admin_port: int,
    *,
    lanes: Collection[str] | None,
    config: Path | None,
) -> int:
    now = asyncio.get_running_loop().time
    stop = _stop_on_signals()
    broker = connect_broker(settings, name, lanes)
    service = factory(settings, broker)
    _prepare_metrics(name, settings, broker)
    admin = AdminServer(
        settings.admin.address,
        admin_port,
        lambda: _why_not(stop, broker, service),
        registry_of(name),
    )
    grace = 0.0
    try:
        port = await _listen(admin, f"admin.{name}_port", admin_port)
        await broker.start()
        await service.start()
        _calm_collector()
        get_logger().info("started", admin_port=port)
        async with _measured(name, settings, broker, service), _watching(config, settings, service):
            await stop.wait()
        get_logger().info("draining")
        grace = now() + settings.shutdown_grace / 1000
        drained = await _in_time("drain", service.drain(), grace)
    finally:
        last = max(grace, now() + LAST_MOMENT)
        closed = await _in_time("leave of the broker", broker.close(), last)
        await admin.close()
    return 0 if drained and closed else 1


def _prepare_metrics(name: str, settings: Settings, broker: Broker) -> None:
    delays = (*settings.delivery.retry_schedule, *WAIT_STEPS_MS)
    metrics.broker_usable.set_function(lambda: broker.usable)
    metrics.broker_blocked.set_function(lambda: broker.blocked)
    metrics.build_info.labels(version("postroad"), name).set(1)
    start_at_zero(
        name,
        {
            Configured.PROVIDER: provider_names(settings.providers),
            Configured.RETRY_STEP: list(dict.fromkeys(map(format_duration, delays))),
        },
    )


@asynccontextmanager
async def _measured(
    name: str, settings: Settings, broker: Broker, service: Service
) -> AsyncIterator[None]:
    """What is looked at from time to time is looked at within."""
    steps = steps_of(settings) if name != INGRESS else {}
    served = service.served if isinstance(service, Serving) else no_lanes
    guaranteed = bool(settings.events.guaranteed)
    depths, lag = DepthWatch(broker, steps, served, events=guaranteed), LoopLag()
    depths.start()
    lag.start()
    try:
        yield
    finally:
        lag.stop()
        await depths.stop()


def _calm_collector() -> None:
    # Hundreds of mails are held at a time, so a young object is hardly ever garbage: the default
    # looks through them after every 35th mail, for a tenth of a service's time. And what there is
    # at the start is there to stay.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def _watching(
    config: Path | None, settings: Settings, service: Service
) -> AsyncIterator[None]:
    if config is None:
        yield
        return
    on_change = service.set_limits if isinstance(service, Limited) else _of_no_concern
    live = service if isinstance(service, Live) else None
    on_logging = partial(configure_logging, service=service.name)
    watch = SettingsWatch(config, settings, on_change, live=live, on_logging=on_logging)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _look_again, watch, service)
    watch.start()
    try:
        yield
    finally:
        await watch.stop()


def _look_again(watch: SettingsWatch, service: Service) -> None:
    watch.look_now()
    if isinstance(service, Renewing):
        service.look_again()


def _of_no_concern(_limits: LimitsSettings) -> None:
    """This service knows no limits."""


async def _listen(admin: AdminServer, key: str, port: int) -> int:
    try:
        return await admin.start()
    except OSError as error:
        raise ConfigError(f"{key}: {port}: {error.strerror}") from error


def _why_not(stop: asyncio.Event, broker: Broker, service: Service) -> str:
    if stop.is_set():
        return "draining"
    if not broker.usable:
        return "broker blocked" if broker.blocked else "broker not usable"
    return service.ready()


async def _in_time(what: str, work: Awaitable[None], deadline: float) -> bool:
    try:
        async with asyncio.timeout_at(deadline):
            await work
    except TimeoutError:
        get_logger().error("grace is over", unfinished=what)
        return False
    return True
