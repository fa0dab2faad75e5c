"""A watch of files outlives what goes wrong with one of their versions."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shared.file_watch import FileWatch


async def test_a_read_that_fails_does_not_end_the_watch(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("bad")
    found: asyncio.Queue[str] = asyncio.Queue()

    async def read() -> None:
        text = file.read_text()
        found.put_nowait(text)
        if text == "bad":
            raise ZeroDivisionError

    watch = FileWatch([file], read, pause=0.01)
    watch.start()
    async with asyncio.timeout(10):
        assert await found.get() == "bad"
        file.write_text("better")
        assert await found.get() == "better"
    await watch.stop()
