"""A content store in memory, with faults on request."""

from __future__ import annotations

import asyncio
from fractions import Fraction


class MemoryStore:
    """Notes each put in `happened`; `error` fails them."""

    def __init__(self, happened: list[str]) -> None:
        self.blobs: dict[str, bytes] = {}
        self.error: Exception | None = None
        self._happened = happened

    async def put(self, name: str, data: bytes) -> None:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self._happened.append("stored")
        self.blobs[name] = data

    async def get(self, name: str) -> memoryview:
        return memoryview(self.blobs[name])

    async def end_share(self, name: str, share: Fraction, job_id: str) -> None:
        assert share == 1
        del self.blobs[name]
