"""Puts into a folder that are durable when they return: written, renamed, synced, folders too.

One thread takes everything that waits, writes it, and syncs each file once and each folder once
for the whole batch: many sessions share the price of a folder's sync. It also removes what is over,
which need not be durable. It knows nothing of mail.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BATCH = 64
ATTEMPTS = 10
STAGED = "#1"
"""Ends the name of a file that is not whole yet: obstore neither lists nor reads such names."""


@dataclass(frozen=True, slots=True)
class _Put:
    name: str
    data: bytes
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Removal:
    name: str
    done: asyncio.Future[None]


_Task = _Put | _Removal


def fsync_path(path: Path) -> None:
    """Sync one file or folder. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(path: Path, data: bytes) -> None:
    """The whole file, or none of that name. Raises OSError."""
    staged = Path(f"{path}{STAGED}")
    try:
        staged.write_bytes(data)
        staged.replace(path)
    except OSError:
        with suppress(OSError):
            staged.unlink()
        raise


class DurableWriter:
    """Writes blobs below `root`; the thread starts with the first put and dies with the process.

    Not through obstore: it hands each blob to a thread of its own, a tenth of what ingress costs
    with 100 KB.
    """

    def __init__(self, root: Path, sync: Callable[[Path], None] = fsync_path) -> None:
        self._root = root
        self._sync_path = sync
        self._waiting: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def put(self, name: str, data: bytes) -> None:
        """Returns when the blob would survive a power cut. Raises what the store raises."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._start()
        self._waiting.put(_Put(name, data, done))
        await done

    async def remove(self, name: str) -> None:
        """Returns when there is no such blob; its folder goes with the last one. Raises OSError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._start()
        self._waiting.put(_Removal(name, done))
        await done

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="content", daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            puts = [task for task in batch if isinstance(task, _Put) and not task.done.done()]
            if puts:
                self._settle([(put, self._write(put)) for put in puts])
            self._report(
                [(task, self._unlink(task)) for task in batch if isinstance(task, _Removal)]
            )

    def _write(self, put: _Put) -> OSError | None:
        path = self._root / put.name
        try:
            _create(path, put.data)
        except FileNotFoundError:
            return self._write_below(path, put.data)
        except OSError as error:
            return error
        return None

    def _write_below(self, path: Path, data: bytes) -> OSError | None:
        """A folder is missing, or goes meanwhile since its last blob ends."""
        error: OSError | None = None
        for _ in range(ATTEMPTS):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _create(path, data)
            except FileNotFoundError as again:
                error = again
            except OSError as final:
                return final
            else:
                return None
        return error

    def _settle(self, results: list[tuple[_Put, OSError | None]]) -> None:
        written = [put for put, error in results if error is None]
        sync_error = self._sync([put.name for put in written])
        if sync_error is not None:
            self._remove(written)
        self._report([(put, error or sync_error) for put, error in results])

    def _report(self, results: Iterable[tuple[_Task, OSError | None]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Task, OSError | None]]] = {}
        for task, error in results:
            by_loop.setdefault(task.done.get_loop(), []).append((task, error))
        for loop, outcomes in by_loop.items():
            self._call(loop, outcomes)

    def _unlink(self, removal: _Removal) -> OSError | None:
        name = removal.name
        try:
            Path(f"{self._root}/{name}").unlink()
        except FileNotFoundError:
            return None  # ended before
        except OSError as error:
            return error
        with suppress(OSError):  # others are in it, as a rule
            while folder := name.rpartition("/")[0]:
                Path(f"{self._root}/{folder}").rmdir()
                name = folder
        return None

    def _sync(self, names: list[str]) -> OSError | None:
        paths = [self._root / name for name in names]
        folders = {folder for path in paths for folder in self._folders(path)}
        try:
            for path in [*paths, *folders]:
                self._sync_path(path)
        except OSError as error:
            return error
        return None

    def _folders(self, path: Path) -> list[Path]:
        below = path.relative_to(self._root).parents
        return [self._root / folder for folder in below]

    def _remove(self, tasks: Iterable[_Task]) -> None:
        """Nobody heard that they are there, so nobody names them."""
        for task in tasks:
            with suppress(OSError):
                (self._root / task.name).unlink()

    def _call(
        self, loop: asyncio.AbstractEventLoop, outcomes: list[tuple[_Task, OSError | None]]
    ) -> None:
        try:
            loop.call_soon_threadsafe(self._resolve, outcomes)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self._remove(task for task, _ in outcomes)

    def _resolve(self, outcomes: list[tuple[_Task, OSError | None]]) -> None:
        for task, error in outcomes:
            if task.done.done():
                self._remove([task])  # who asked waits no longer
            elif error is None:
                task.done.set_result(None)
            else:
                task.done.set_exception(error)
