"""Reads deploy/compose.yaml as Docker Compose would, as far as ours goes.

Interpolation, short forms and relative paths are resolved, so that tests run what the file says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of the checkout, or a named volume (`volume`), in a container."""

    source: Path
    target: str
    read_only: bool
    volume: str = ""


@cache
def model() -> dict[str, Any]:
    """The whole file, with merge keys and variables filled in."""
    found: dict[str, Any] = interpolated(yaml.safe_load(COMPOSE.read_text("utf-8")), {})
    return found


def services() -> dict[str, dict[str, Any]]:
    """Each service by its name."""
    found: dict[str, dict[str, Any]] = model()["services"]
    return found


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """`${NAME:-default}` filled in, and `$$` as `$`."""
    if isinstance(value, dict):
        return {key: interpolated(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, variables) for each in value]
    return _filled(value, variables) if isinstance(value, str) else value


def _filled(text: str, variables: Mapping[str, str]) -> str:
    def one(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1]) or found[2]

    filled = re.sub(r"\$\$|\$\{(\w+):-([^}]*)\}", one, text)
    assert "${" not in filled, f"{text}: a variable without a default"
    return filled


def mounts(service: str) -> list[Mount]:
    """Its volumes and its secrets."""
    said = services()[service]
    return [_volume(text) for text in said.get("volumes", [])] + [
        _secret(one) for one in said.get("secrets", [])
    ]


def _volume(text: str) -> Mount:
    source, target, *mode = text.split(":")
    read_only = mode == ["ro"]
    if source.startswith("."):
        return Mount((COMPOSE.parent / source).resolve(), target, read_only)
    assert source in model()["volumes"], f"{source} is no volume"
    return Mount(Path(), target, read_only, source)


def _secret(said: str | Mapping[str, str]) -> Mount:
    name, target = (said, said) if isinstance(said, str) else (said["source"], said["target"])
    file = COMPOSE.parent / model()["secrets"][name]["file"]
    return Mount(file.resolve(), str(Path("/run/secrets") / target), read_only=True)
