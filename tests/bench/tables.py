"""Numbers to Markdown (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; every row has as many cells as `head`."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def machine_line(machine: Mapping[str, str]) -> str:
    """The machine in one sentence, for a section that may be measured alone."""
    return "Measured on " + "; ".join(f"{key}: {value}" for key, value in machine.items()) + ".\n"


def verdict(reached: bool) -> str:
    """What stands beside a wanted value."""
    return "reached" if reached else "**missed**"
