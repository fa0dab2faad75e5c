"""Who is alive among the processes that share the store, told by the kernel and not by clocks.

Each broker instance holds an exclusive flock on `owners/<id>.lock` for its whole life; the kernel
drops it the instant the process dies, however it dies. Whoever then gets that lock knows that
the owner is dead and takes its leases back. So leases need no time-outs and no renewals: a live
owner keeps its messages for as long as it needs them, even when stopped or swapped out.

Owners are created and reaped under the writer lock only: otherwise a new owner's file could be
mistaken for a dead one's between its creation and its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class WriterLock:
    """One writer at a time among all processes: a blocking flock instead of SQLite's sleeps.

    While one process commits the others wait here, and what they have to write piles up to one
    larger batch. It also keeps checkpoints apart, which SQLite before 3.51.3 needs
    (https://sqlite.org/wal.html#walresetbug).
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give up the file."""
        os.close(self._descriptor)


class Owners:
    """This instance's sign of life, and the look at those of the others."""

    def __init__(self, directory: Path, own_id: int) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self.own_id = own_id
        lock = try_lock(self._path(own_id), os.O_CREAT)
        if lock is None:
            raise FileExistsError(f"{self._path(own_id)} is in use")
        self._lock = lock

    def _path(self, owner: int) -> Path:
        return self._directory / f"{owner:016x}.lock"

    def dead(self) -> list[int]:
        """Owners that left a file but hold no lock on it."""
        others = {int(path.stem, 16) for path in self._directory.glob("*.lock")} - {self.own_id}
        return [owner for owner in others if self._is_dead(owner)]

    def strangers(self, owners: set[int]) -> set[int]:
        """Those among `owners` that have no file at all: a power cut took it."""
        return {owner for owner in owners if not self._path(owner).exists()}

    def _is_dead(self, owner: int) -> bool:
        lock = try_lock(self._path(owner), 0)
        if lock is None:
            return False
        os.close(lock)
        return True

    def bury(self, owner: int) -> None:
        """Remove a dead owner's file, once its leases are back."""
        self._path(owner).unlink(missing_ok=True)

    def leave(self) -> None:
        """End of this instance: its leases are back already."""
        self.bury(self.own_id)
        os.close(self._lock)


def try_lock(path: Path, flags: int) -> int | None:
    """The descriptor of a file that nobody else has locked, locked now, else None."""
    """The descriptor of a file that nobody else has locked, now locked, else None."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
    return None
