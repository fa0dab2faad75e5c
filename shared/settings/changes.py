"""What differs between two configurations, key by key, as it may be logged (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shared.settings.model import Settings
from shared.settings.values import hide_password

LONGEST_VALUE = 100
"""Characters of a value that are told."""


def changes(old: Settings, new: Settings) -> dict[str, str]:
    """`old -> new` by the key as the reference names it. Passwords in URLs are hidden."""
    before, after = dict(_flat(_dumped(old))), dict(_flat(_dumped(new)))
    shown_before, shown_after = dict(_flat(_shown(old))), dict(_flat(_shown(new)))
    return {
        key: f"{_text(shown_before.get(key))} -> {_text(shown_after.get(key))}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def _dumped(settings: Settings) -> dict[str, Any]:
    dumped = settings.model_dump(mode="json")
    secret = settings.content_store.s3_secret_access_key
    dumped["content_store"]["s3_secret_access_key"] = secret.get_secret_value()
    return dumped


def _shown(settings: Settings) -> dict[str, Any]:
    dumped = settings.model_dump(mode="json")
    dumped["broker"]["url"] = hide_password(dumped["broker"]["url"])
    return dumped


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping | list) or not value:
        yield path, value
        return
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, each in pairs:
        yield from _flat(each, f"{path}.{key}" if path else str(key))


def _text(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
