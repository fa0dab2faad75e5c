"""A TCP proxy on loopback that can fall silent: a link that is cut without a FIN.

With a server-side TLS context it is also the TLS end in front of a plain server.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator


class TcpProxy:
    """Forwards octets both ways while told to; what is held back is dropped, never delayed."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.connections = 0
        self.forwards_requests = True
        """Octets from clients pass."""
        self.forwards_answers = True
        """Octets from the server pass."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for its whole life."""
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers |= {writer, back}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, back, answers=False))
                both.create_task(self._pump(there, writer, answers=True))
        finally:
            self._writers -= {writer, back}

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while octets := await source.read(65_536):
                if self.forwards_answers if answers else self.forwards_requests:
                    sink.write(octets)
                    await sink.drain()
        sink.close()

    def close_all(self) -> None:
        """Cut what is open."""
        for writer in self._writers:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def tcp_proxy(target_port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[TcpProxy]:
    """A proxy for the length of the block."""
    proxy = TcpProxy(target_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.close_all()
        await asyncio.sleep(0)
