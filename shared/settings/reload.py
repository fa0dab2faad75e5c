"""Takes up new limits while the process runs: watches the configuration file.

A file that cannot be used changes nothing. Nothing but `limits` takes effect without a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared import metrics
from shared.file_watch import PAUSE, FileWatch
from shared.logs import get_logger
from shared.settings.load import ConfigError, load_settings
from shared.settings.model import Settings
from shared.settings.shaping import LimitOverride, LimitsSettings

MOST_LOGGED = 20
"""Overrides that one log line tells of."""

Load = Callable[[Path], Settings]
OnChange = Callable[[LimitsSettings], None]


class SettingsWatch(FileWatch):
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
        super().__init__([path], self.read, pause=pause)
        self._path = path
        self._settings = settings
        self._on_change = on_change
        self._load = load

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
