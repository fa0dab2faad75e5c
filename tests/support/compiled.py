"""Processes that tests and benchmarks start run the compiled hot path, as the image has it.

`make test` and `make bench` build it and name its folder in the environment. What a test calls in
its own process stays plain Python: so both are tested.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
VARIABLE = "POSTROAD_TEST_COMPILED"
SEARCH = ("PYTHONPATH", "PYTHONSAFEPATH")


def use_compiled(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Let Python processes started from now on find it first; whether it is there.

    Raises RuntimeError if it is named and not there, where CI=true.
    """
    named = environment.get(VARIABLE)
    if not named:
        return False
    folder = (ROOT / named).resolve()
    if not (folder / "built").exists():
        if environment.get("CI") == "true":
            raise RuntimeError(f"{VARIABLE}: {folder} holds nothing that was built")
        return False
    # Without the second, the working directory would come before it.
    environment["PYTHONPATH"] = os.pathsep.join((str(folder), str(ROOT)))
    environment["PYTHONSAFEPATH"] = "1"
    return True


@contextmanager
def plain_python() -> Iterator[None]:
    """Meanwhile processes are started as plain Python, in which a class can be changed."""
    kept = {name: os.environ.pop(name) for name in SEARCH if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
