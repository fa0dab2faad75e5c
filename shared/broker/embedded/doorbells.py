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
from urllib.parse import quote, unquote

_READ_BYTES = 65536


class Doorbells:
    """This owner's pipes, to be polled, and the other owners', to be rung."""

    def __init__(self, directory: Path, own_id: int) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self._prefix = f"{own_id:016x}."
        self._own: dict[str, int] = {}
        self._queues: dict[int, str] = {}
        self._others: dict[str, dict[str, int | None]] = {}
        """By queue, the pipes of other owners; opened by the first ring."""

    def listens(self, queue: str) -> bool:
        """Whether a pipe of ours is open for `queue`."""
        return queue in self._own

    def listen(self, queue: str) -> int:
        """The descriptor that becomes readable when another process rings for `queue`."""
        if queue not in self._own:
            path = self._path(queue)
            os.mkfifo(path, 0o600)
            # Open for writing too, or the pipe reads as ended whenever nobody rings.
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._own[queue] = descriptor
            self._queues[descriptor] = queue
        return self._own[queue]

    def _path(self, queue: str) -> Path:
        return self._directory / f"{self._prefix}{quote(queue, safe='')}"

    def hush(self, queue: str) -> None:
        """Nobody here consumes `queue` any more."""
        descriptor = self._own.pop(queue, None)
        if descriptor is not None:
            del self._queues[descriptor]
            os.close(descriptor)
            self._path(queue).unlink(missing_ok=True)

    def answer(self, descriptor: int) -> str:
        """Empty a pipe that became readable; returns its queue."""
        with contextlib.suppress(BlockingIOError):
            os.read(descriptor, _READ_BYTES)
        return self._queues[descriptor]

    def ring(self, queues: Iterable[str]) -> None:
        """Wake the other owners that consume one of `queues`."""
        for queue in queues:
            others = self._others.get(queue, {})
            for name in others:
                self._ring(others, name)

    def _ring(self, others: dict[str, int | None], name: str) -> None:
        try:
            descriptor = others[name]
            if descriptor is None:
                # Without a reader this fails: its owner is dead, or listens no more.
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = others[name] = os.open(self._directory / name, flags)
            os.write(descriptor, b"!")
        except BlockingIOError:
            return  # a full pipe wakes its reader as well
        except OSError:
            self._hang_up(others, name)

    def _hang_up(self, others: dict[str, int | None], name: str) -> None:
        descriptor, others[name] = others[name], None
        if descriptor is not None:
            os.close(descriptor)

    def refresh(self) -> None:
        """Learn which pipes exist now."""
        names = {path.name for path in self._directory.iterdir()}
        known = {name for others in self._others.values() for name in others}
        for name in names - known:
            if not name.startswith(self._prefix):
                self._others.setdefault(_queue(name), {})[name] = None
        for name in known - names:
            others = self._others[_queue(name)]
            self._hang_up(others, name)
            del others[name]
            if not others:
                del self._others[_queue(name)]

    def bury(self, owner: int) -> None:
        """Remove the pipes of a dead owner."""
        for path in self._directory.glob(f"{owner:016x}.*"):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove this owner's pipes."""
        for queue in tuple(self._own):
            self.hush(queue)
        for others in self._others.values():
            for name in others:
                self._hang_up(others, name)
        self._others = {}


def _queue(name: str) -> str:
    return unquote(name.partition(".")[2])
