"""CPU time of process trees, from /proc; children that have ended are counted by their parents.

A parent's cutime and cstime hold what its reaped children used, and theirs. So the sum of all
four over the living tree is exact, whatever was started and ended between two readings.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def parse_stat(text: str) -> tuple[int, int]:
    """Parent id and ticks (utime + stime + cutime + cstime) of a /proc/PID/stat line."""
    fields = text[text.rindex(")") + 2 :].split()  # the name may hold spaces and brackets
    return int(fields[1]), sum(map(int, fields[11:15]))


def tree_seconds(roots: Iterable[int]) -> float:
    """CPU seconds of these processes and everything below them. Gone roots count nothing."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            try:
                text = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended between the two calls
            parents[int(entry.name)], ticks[int(entry.name)] = parse_stat(text)
    wanted = _below(set(roots), parents)
    return sum(ticks[pid] for pid in wanted) / TICKS


def _below(roots: set[int], parents: dict[int, int]) -> set[int]:
    found = roots & parents.keys()
    new = found
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def resident_bytes(pid: int) -> int:
    """Resident memory of one process."""
    pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
