"""`postroad event-store`: a process that follows all events and keeps them."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from services.events.errors import StoreError
from services.events.store import EventStore
from shared.broker.connect import connect_events
from shared.events.codec import ANY_WORDS, lines_of
from shared.logs import configure_logging, get_logger
from shared.settings.load import ConfigError
from shared.settings.model import Settings

NAME = "store"
"""Under which a broker keeps what is told while this process is away."""
SILENCE_SECONDS = 1.0
"""After which the end has come: the services are told to stop with this process, and drain."""


def store_path(settings: Settings) -> Path:
    """Where events are kept. Raises `ConfigError` where they are not."""
    path = settings.events.store.path
    if path is None:
        raise ConfigError(
            "events.store.path: is not set, so no events are kept; "
            "`postroad events --follow` shows them as they happen"
        )
    return path


def run_store(settings: Settings) -> int:
    """Keep events until SIGTERM or SIGINT; returns the exit code. Raises `ConfigError`."""
    path = store_path(settings)
    configure_logging(settings.logging, "event-store")
    kept = settings.events.store
    try:
        store = EventStore(path, kept.max_events, kept.max_age / 1000, time.time)
    except StoreError as error:
        raise ConfigError(f"events.store.path: {error}") from error
    asyncio.run(_keep(settings, store))
    return 0


async def _keep(settings: Settings, store: EventStore) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    heard = loop.time()

    def keep(body: bytes) -> None:
        nonlocal heard
        heard = loop.time()
        try:
            store.add(lines_of(body))
        except StoreError as error:
            get_logger().error("events were not kept", error=str(error))

    line = connect_events(settings, "event-store")
    line.follow([ANY_WORDS], keep, name=NAME)
    get_logger().info("started", path=str(settings.events.store.path))
    await stop.wait()
    told = loop.time()
    last = told + settings.shutdown_grace / 1000
    while loop.time() < min(last, max(heard, told) + SILENCE_SECONDS):  # noqa: ASYNC110 - at the end
        await asyncio.sleep(SILENCE_SECONDS / 10)
    await line.close()
    store.close()
