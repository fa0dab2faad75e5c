"""Waking the consumers in other processes: a named pipe for each consumed queue of each owner.

SQLite has no notification. A process that makes messages ready writes one byte into the pipes of
that queue; their readers sleep in poll(2) meanwhile and cost nothing. A missed bell (a pipe not
known yet, a full pipe) costs only the wait until the reader's next look at the store.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

_READ_BYTES = 65536


class Doorbells:
    """This owner's pipes, to be polled, and the other owners', to be rung."""

    def __init__(self, directory: Path, own_id: int) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self._prefix = f"{own_id:016x}."
        self._own: dict[str, int] = {}
        self._others: dict[str, int] = {}

    def listen(self, queue: str) -> int:
        """The descriptor that becomes readable when another process rings for `queue`."""
        if queue not in self._own:
            path = self._directory / f"{self._prefix}{quote(queue, safe='')}"
            os.mkfifo(path, 0o600)
            # Open for writing too, or the pipe reads as ended whenever nobody rings.
            self._own[queue] = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        return self._own[queue]

    def answer(self, descriptor: int) -> str:
        """Empty a pipe that became readable; returns its queue."""
        with contextlib.suppress(BlockingIOError):
            os.read(descriptor, _READ_BYTES)
        return next(queue for queue, own in self._own.items() if own == descriptor)

    def ring(self, queues: Iterable[str]) -> None:
        """Wake the other owners that consume one of `queues`."""
        if not self._others:
            return
        for queue in queues:
            ending = "." + quote(queue, safe="")
            for name in [name for name in self._others if name[16:] == ending]:
                self._ring(name)

    def _ring(self, name: str) -> None:
        try:
            os.write(self._others[name], b"!")
        except BlockingIOError:
            return  # a full pipe wakes its reader as well
        except OSError:
            os.close(self._others.pop(name))

    def refresh(self) -> None:
        """Learn which pipes exist now."""
        names = {path.name for path in self._directory.iterdir()}
        names = {name for name in names if not name.startswith(self._prefix)}
        for name in self._others.keys() - names:
            os.close(self._others.pop(name))
        for name in names - self._others.keys():
            # Without a reader the open fails: its owner is dead or not there yet.
            with contextlib.suppress(OSError):
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                self._others[name] = os.open(self._directory / name, flags)

    def bury(self, owner: int) -> None:
        """Remove the pipes of a dead owner."""
        for path in self._directory.glob(f"{owner:016x}.*"):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove this owner's pipes."""
        for descriptor in [*self._own.values(), *self._others.values()]:
            os.close(descriptor)
        for queue in self._own:
            path = self._directory / f"{self._prefix}{quote(queue, safe='')}"
            path.unlink(missing_ok=True)
        self._own, self._others = {}, {}
