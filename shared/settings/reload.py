"""Takes up new limits while the process runs: watches the configuration file.

A file that cannot be used changes nothing. Nothing but `limits` takes effect without a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared import metrics
from shared.logs import get_logger
from shared.settings.load import ConfigError, load_settings
from shared.settings.model import Settings
from shared.settings.shaping import LimitOverride, LimitsSettings

PAUSE = 1.0
"""Seconds between two looks. A file counts as changed once it looks the same twice."""
MOST_LOGGED = 20
"""Overrides that one log line tells of."""

Stamp = tuple[int, ...]
Load = Callable[[Path], Settings]
OnChange = Callable[[LimitsSettings], None]


class SettingsWatch:
    """Calls `on_change`, on the loop, with the limits each time they have changed.

    `settings` are those the process runs with. `load` is called on a thread and raises
    `ConfigError`.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        on_change: OnChange,
        *,
        load: Load = load_settings,
        pause: float = PAUSE,
    ) -> None:
        self._path = path
        self._settings = settings
        self._on_change = on_change
        self._load = load
        self._pause = pause
        self._asked = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch. The file is soon read once: it may have changed since it was read."""
        self._watching = asyncio.ensure_future(self._watch())
        self._watching.add_done_callback(_ended)

    def look_now(self) -> None:
        """Read the file although it looks the same."""
        self._asked.set()

    async def stop(self) -> None:
        """No further call of `on_change` will come."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def read(self) -> None:
        """Read the file and take up what is new."""
        try:
            new = await asyncio.to_thread(self._load, self._path)
        except ConfigError as error:
            metrics.config_reloads.labels("failed").inc()
            get_logger().error("configuration not taken up", error=str(error))
            return
        changed = [
            key
            for key in Settings.model_fields
            if getattr(new, key) != getattr(self._settings, key)
        ]
        if changed:
            metrics.config_reloads.labels("ok").inc()
        if rest := [key for key in changed if key != "limits"]:
            get_logger().warning("configuration needs a restart", sections=rest)
        if "limits" in changed:
            self._take_up(new.limits)

    async def _watch(self) -> None:
        read: Stamp | None = None
        seen: Stamp | None = None
        while True:
            stamp = await asyncio.to_thread(_stamp, self._path)
            if self._asked.is_set() or (stamp == seen and stamp != read):
                self._asked.clear()
                read = stamp
                await self.read()
            seen = stamp
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._pause)

    def _take_up(self, limits: LimitsSettings) -> None:
        self._on_change(limits)
        get_logger().info("limits changed", **differences(self._settings.limits, limits))
        self._settings = self._settings.model_copy(update={"limits": limits})


def differences(old: LimitsSettings, new: LimitsSettings) -> dict[str, Any]:
    """What a log line tells of a change."""
    default = {
        key: f"{before} -> {getattr(new.default, key)}"
        for key, before in old.default
        if before != getattr(new.default, key)
    }
    told = {
        "default": default,
        "added": _told(new.overrides, old.overrides),
        "removed": _told(old.overrides, new.overrides),
    }
    return {key: value for key, value in told.items() if value}


def _told(these: tuple[LimitOverride, ...], others: tuple[LimitOverride, ...]) -> list[Any]:
    alone = [override for override in these if override not in others]
    dumped = [each.model_dump(mode="json", exclude_defaults=True) for each in alone[:MOST_LOGGED]]
    more = len(alone) - MOST_LOGGED
    return [*dumped, f"and {more} more"] if more > 0 else dumped


def _stamp(path: Path) -> Stamp:
    """What changes with the file, also with a link on the way to it; empty if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _ended(watching: asyncio.Task[None]) -> None:
    if not watching.cancelled() and (error := watching.exception()) is not None:
        get_logger().error("the configuration is not watched any more", exc_info=error)
