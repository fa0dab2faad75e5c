"""Notices when a file changes, by looking: works through every kind of mount and link.

Kubernetes swaps a link on the way to a mounted file, editors write a new one and rename it; a
watch on the inode would miss both.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from shared.logs import get_logger

PAUSE = 1.0
"""Seconds between two looks. A file counts as changed once it looks the same twice."""

Stamp = tuple[int, ...]


class FileWatch:
    """Awaits `read`, on the loop, soon after `start` and whenever one of `paths` has changed."""

    def __init__(
        self, paths: Sequence[Path], read: Callable[[], Awaitable[None]], *, pause: float = PAUSE
    ) -> None:
        self._paths = paths
        self._read = read
        self._pause = pause
        self._asked = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch. The files are soon read once: they may have changed meanwhile."""
        self._watching = asyncio.ensure_future(self._watch())
        self._watching.add_done_callback(self._ended)

    def look_now(self) -> None:
        """Read although nothing looks changed."""
        self._asked.set()

    async def stop(self) -> None:
        """Nothing is read any more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def _watch(self) -> None:
        read: list[Stamp] | None = None
        seen: list[Stamp] | None = None
        while True:
            stamps = await asyncio.to_thread(lambda: [_stamp(path) for path in self._paths])
            if self._asked.is_set() or (stamps == seen and stamps != read):
                self._asked.clear()
                read = stamps
                await self._read_safely()
            seen = stamps
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._pause)

    async def _read_safely(self) -> None:
        """What is wrong with one change must not hide the next, which may take rights away."""
        try:
            await self._read()
        except Exception:
            paths = [str(path) for path in self._paths]
            get_logger().exception("changed files were not taken up", paths=paths)

    def _ended(self, watching: asyncio.Task[None]) -> None:
        if not watching.cancelled() and (error := watching.exception()) is not None:
            paths = [str(path) for path in self._paths]
            get_logger().error("files are not watched any more", paths=paths, exc_info=error)


def _stamp(path: Path) -> Stamp:
    """What changes with the file, also with a link on the way to it; empty if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
