"""Decisions a second of delivery's scheduler: the benchmark beside it, hooked in.

`tests.bench.scheduler` is a program of its own that prints Markdown. This module only runs it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.bench.figures import BenchError
from tests.bench.page import write_section
from tests.bench.tables import machine_line
from tests.support.pipeline import ROOT

MODULE = "tests.bench.scheduler"
TIMEOUT = 120.0


def measure(quick: bool, module: str = MODULE) -> str:
    """What the benchmark of the scheduler prints. Raises `BenchError` if it fails."""
    if importlib.util.find_spec(module) is None:
        raise BenchError(f"{module} is not there")
    command = [sys.executable, "-m", module, *(["--quick"] if quick else [])]
    done = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=TIMEOUT
    )
    if done.returncode:
        raise BenchError(f"{module}: {done.stderr[-2000:]}")
    return done.stdout.strip()


def write(path: Path, text: str, machine: Mapping[str, str]) -> None:
    """Renew the section."""
    write_section(path, "scheduler", f"## Scheduler\n\n{machine_line(machine)}\n{text}\n")
