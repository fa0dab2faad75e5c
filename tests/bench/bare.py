"""The floor: an SMTP client that does nothing but write, count replies and write again.

MAIL, RCPT and DATA in one write; then the content. No timeouts, no limits, no dot-stuffing, no
reading of what a reply says beyond its first digit: it is a measure, not a client.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast


class BareClient(asyncio.Protocol):
    """One connection. Every method raises ConnectionError if a reply is not positive."""

    def __init__(self) -> None:
        self._rest = b""
        self._missing = 1  # the banner
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        lines = (self._rest + data).split(b"\r\n")
        self._rest = lines.pop()
        for line in lines:
            if line[3:4] != b"-":
                self._missing -= 1
            if line[:1] not in b"23":
                self._fail(line.decode())
        if self._missing == 0 and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._fail("connection lost")

    def _fail(self, why: str) -> None:
        if not self._done.done():
            self._done.set_exception(ConnectionError(why))

    async def hello(self, name: str) -> None:
        """Wait for the banner, and say EHLO."""
        await self._done
        await self.exchange(f"EHLO {name}\r\n".encode(), 1)

    async def exchange(self, octets: bytes, replies: int) -> None:
        """Write, and wait for that many replies."""
        if self._transport.is_closing():
            raise ConnectionError("connection lost")
        self._missing += replies
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(octets)
        await self._done

    async def secure(self, context: ssl.SSLContext) -> None:
        """TLS, after STARTTLS was answered."""
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(self._transport, self, context)
        assert transport is not None
        self._transport = transport

    async def send(self, reverse_path: str, recipient: str, content: bytes) -> None:
        """One transaction; `content` ends with CRLF and has no line that begins with a dot."""
        commands = f"MAIL FROM:<{reverse_path}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n"
        await self.exchange(commands.encode(), 3)
        await self.exchange(content + b".\r\n", 1)

    async def quit(self) -> None:
        """Take leave in good order."""
        await self.exchange(b"QUIT\r\n", 1)
        self._transport.close()


async def connect_bare(host: str, port: int, hello: str) -> BareClient:
    """A connection that is past EHLO."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(BareClient, host, port)
    await client.hello(hello)
    return client
