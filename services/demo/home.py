"""What a session needs from the receiver it belongs to. Only this type: no behaviour."""

from __future__ import annotations

import ssl
from typing import Protocol

from services.demo.script import Received, Script


class Connection(Protocol):
    """What a receiver needs from a session."""

    def close(self) -> None:
        """End the connection at once."""


class Home(Protocol):
    """The receiver, seen from its sessions."""

    script: Script
    keep: str
    tls: ssl.SSLContext | None

    def now(self) -> float:
        """Seconds since the epoch."""

    def greylisted(self, reverse_path: str, forward_path: str) -> bool:
        """Whether the greylist refuses this try; it is counted."""

    def opened(self, session: Connection) -> tuple[int, bytearray]:
        """A connection came; gives its number and where its bytes are noted."""

    def closed(self, session: Connection) -> None:
        """A connection went."""

    def took(self, received: Received, *, answered: bool) -> None:
        """A transaction reached its final dot."""

    def noticed(self) -> None:
        """Bytes came, or a connection."""
