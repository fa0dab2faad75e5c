"""Reads deploy/compose.yaml as Docker Compose does: Compose itself does it, without an engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of the checkout, or a named volume (`volume`), in a container."""

    source: Path
    target: str
    read_only: bool
    volume: str = ""


def compose_config(file: Path, *options: str) -> tuple[int, str, str]:
    """What `docker compose config` says: exit code, the whole model, complaints."""
    tool = Path(sys.executable).with_name("docker-compose")
    # No variable of this session may change what the file says.
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
    done = subprocess.run(
        [tool, "--file", file, "config", *options],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@cache
def model() -> dict[str, Any]:
    """The whole file: merged, with variables and paths filled in."""
    code, text, said = compose_config(COMPOSE, "--format", "json")
    assert code == 0, said
    found: dict[str, Any] = json.loads(text.replace("$$", "$"))
    return found


def services() -> dict[str, dict[str, Any]]:
    """Each service by its name."""
    found: dict[str, dict[str, Any]] = model()["services"]
    return found


def mounts(service: str) -> list[Mount]:
    """Its volumes and its secrets."""
    said = services()[service]
    return [_volume(one) for one in said.get("volumes", [])] + [
        _secret(one) for one in said.get("secrets", [])
    ]


def _volume(said: dict[str, Any]) -> Mount:
    source, target, read_only = said["source"], said["target"], said.get("read_only", False)
    if said["type"] == "volume":
        return Mount(Path(), target, read_only, source)
    return Mount(Path(source), target, read_only)


def _secret(said: dict[str, Any]) -> Mount:
    file = Path(model()["secrets"][said["source"]]["file"])
    return Mount(file, str(Path("/run/secrets") / said["target"]), read_only=True)
