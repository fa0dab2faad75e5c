"""Prometheus and promtool (Debian package prometheus): skipped without, a failure under CI."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MINUTES = 60.0


def tool(name: str) -> str:
    """The path of `promtool` or `prometheus`; skips the test, or fails it under CI=true."""
    found = shutil.which(name)
    if found is None:
        why = f"{name} is missing (Debian package prometheus; scripts/install_prometheus.sh)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{why}, and CI=true allows no skipped tests")
        pytest.skip(f"*** NOT TESTED: {why} ***")
    return found


def promtool(*arguments: str | Path, cwd: Path | None = None) -> tuple[int, str]:
    """Exit code, and all that it printed."""
    done = subprocess.run(
        [tool("promtool"), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=MINUTES,
    )
    return done.returncode, done.stdout + done.stderr
