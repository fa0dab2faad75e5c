"""The sending side of one connection, and its tap: replies out, reading on or off."""

from __future__ import annotations

import asyncio

from shared import metrics
from shared.smtp.server_replies import ServerReply

_count_refusal = {
    reason: metrics.refused_messages.labels(reason).inc for reason in metrics.REFUSALS
}


def count_refusal(reply: ServerReply) -> None:
    """Count what is refused, also where nobody can be told."""
    if reply.refusal:
        _count_refusal[reply.refusal]()


def peer_address(transport: asyncio.BaseTransport) -> str:
    """The client's IP address without a zone; an unspecified one where it is gone already."""
    peername = transport.get_extra_info("peername")
    return str(peername[0]).partition("%")[0] if peername else "0.0.0.0"


class Link:
    """Replies wait here until `flush` sends them in one write. After `lost` nothing happens."""

    __slots__ = ("_out", "paused", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport: asyncio.Transport | None = transport
        self._out: list[bytes] = []
        self.paused = False

    def lost(self) -> None:
        """The connection is gone."""
        self.transport = None

    def reply(self, reply: ServerReply) -> None:
        """Answer, and count what is refused."""
        self._out.append(reply.wire)
        if reply.refusal:
            _count_refusal[reply.refusal]()

    def flush(self) -> None:
        """Send what was answered."""
        if self._out:
            octets = b"".join(self._out)
            self._out.clear()
            self.write(octets)

    def write(self, octets: bytes) -> None:
        """Send at once."""
        if self.transport is not None:
            self.transport.write(octets)

    def pause_reading(self, paused: bool) -> None:
        """Take no more from the client, or go on."""
        if self.transport is None or paused is self.paused:
            return
        self.paused = paused
        if paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def close(self) -> None:
        """Send what was answered, then end the connection."""
        self.flush()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """End the connection now; what was not sent is lost."""
        if self.transport is not None:
            self.transport.abort()
