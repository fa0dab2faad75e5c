"""Takes up new limits while the process runs: watches the configuration file.

A file that cannot be used changes nothing. What takes effect without a restart is `limits`,
`logging`, and the keys that a service says it takes up; all others that changed are named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from shared import metrics
from shared.file_watch import PAUSE, FileWatch
from shared.logs import get_logger
from shared.settings.changes import changes
from shared.settings.load import ConfigError, load_settings
from shared.settings.model import LoggingSettings, Settings
from shared.settings.shaping import LimitOverride, LimitsSettings

MOST_LOGGED = 20
"""Overrides that one log line tells of."""

Load = Callable[[Path], Settings]
OnChange = Callable[[LimitsSettings], None]
OnLogging = Callable[[LoggingSettings], None]


@runtime_checkable
class Live(Protocol):
    """What takes up keys of the section `ingress` while it runs."""

    live_keys: frozenset[str]

    def take_up(self, settings: Settings) -> None:
        """From now on their values in `settings` hold."""


class SettingsWatch(FileWatch):
    """Calls `on_change`, on the loop, with the limits each time they have changed.

    `on_logging`, if given, is called with changed settings of the logs, and `live` is told of its
    keys. `settings` are those the process runs with. `load` is called on a thread and raises
    `ConfigError`.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        on_change: OnChange,
        *,
        live: Live | None = None,
        on_logging: OnLogging | None = None,
        load: Load = load_settings,
        pause: float = PAUSE,
    ) -> None:
        super().__init__([path], self.read, pause=pause)
        self._path = path
        self._settings = settings
        self._on_change = on_change
        self._live = live
        self._on_logging = on_logging
        self._load = load

    async def read(self) -> None:
        """Read the file and take up what is new."""
        try:
            new = await asyncio.to_thread(self._load, self._path)
        except ConfigError as error:
            metrics.config_reloads.labels("failed").inc()
            get_logger().error("configuration not taken up", error=str(error))
            return
        found = changes(self._settings, new)
        if found:
            metrics.config_reloads.labels("ok").inc()
        live_keys = self._live.live_keys if self._live is not None else frozenset()
        taken = {key: what for key, what in found.items() if key in live_keys}
        always = ("limits.",) if self._on_logging is None else ("limits.", "logging.")
        others = [key for key in found if key not in taken and not key.startswith(always)]
        if others:
            told = {key: found[key] for key in others[:MOST_LOGGED]}
            more = max(0, len(others) - MOST_LOGGED)
            get_logger().warning("configuration needs a restart", keys=told, more=more)
        if self._on_logging is not None and new.logging != self._settings.logging:
            self._on_logging(new.logging)
            self._settings = self._settings.model_copy(update={"logging": new.logging})
            logs = {key: what for key, what in found.items() if key.startswith("logging.")}
            get_logger().info("configuration taken up", keys=logs)
        if taken:
            self._take_up_keys(new, taken)
        if new.limits != self._settings.limits:
            self._take_up(new.limits)

    def _take_up_keys(self, new: Settings, taken: Mapping[str, str]) -> None:
        assert self._live is not None
        names = [key.partition(".")[2] for key in taken]
        update = {name: getattr(new.ingress, name) for name in names}
        ingress = self._settings.ingress.model_copy(update=update)
        self._settings = self._settings.model_copy(update={"ingress": ingress})
        self._live.take_up(self._settings)
        get_logger().info("configuration taken up", keys=dict(taken))

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
