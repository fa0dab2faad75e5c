"""The settings as they may be logged: what differs from the defaults, without passwords."""

from __future__ import annotations

from typing import Any

from shared.settings.model import Settings
from shared.settings.values import hide_password


def public_settings(settings: Settings) -> dict[str, Any]:
    """Keys and values that are not defaults, as in the configuration file, secrets hidden."""
    shown = settings.model_dump(mode="json", exclude_defaults=True)
    if "url" in shown.get("broker", {}):
        shown["broker"]["url"] = hide_password(shown["broker"]["url"])
    return shown
