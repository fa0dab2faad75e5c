"""How far a service is, from the log that it writes anyway: asking it would cost its time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import IO


class LogTail:
    """The lines of one event in a log that grows; the file need not be there yet."""

    def __init__(self, path: Path, event: str) -> None:
        self._path = path
        self._event = event
        self._mark = f'"event":"{event}"'.encode()
        self._file: IO[bytes] | None = None
        self._rest = b""
        self._count = 0

    def count(self) -> int:
        """How many whole lines there are by now."""
        if self._file is None:
            if not self._path.exists():
                return 0
            self._file = self._path.open("rb")
        text = self._rest + self._file.read()
        end = text.rfind(b"\n") + 1
        self._rest = text[end:]
        self._count += text.count(self._mark, 0, end)
        return self._count

    def ids(self) -> Counter[str]:
        """How often each mail had this event, over the whole log."""
        lines = self._path.read_bytes().splitlines()
        return Counter(json.loads(line)["mail_id"] for line in lines if self._mark in line)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
