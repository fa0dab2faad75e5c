"""Which consumer of a single active queue is served: whoever holds the lock of the queue's file.

The kernel drops the lock the instant its process dies, however it dies; a process that is only
stopped keeps it. The files stay: one that was removed could be locked by two, each its own.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from shared.broker.embedded.owners import try_lock


class Fences:
    """The fences in one directory; each that is taken is a descriptor."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory

    def take(self, queue: str) -> int | None:
        """The fence of a queue, or None while another consumer has it, here or elsewhere."""
        return try_lock(self._directory / f"{quote(queue, safe='')}.lock", os.O_CREAT)

    def give_up(self, fence: int) -> None:
        """Another consumer may take it from now on."""
        os.close(fence)
