"""A small egress gateway that speaks SOCKS5 (RFC 1928), and says what it was asked for."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator


class SocksServer:
    """Connects for its clients while `reply` is 0; any other reply is all that they get.

    `greeting` is what answers the client's methods. `asked` has addresses and ports.
    """

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[tuple[str, int]] = []
        self.reply = 0
        self.greeting = b"\x05\x00"
        self.silent = False
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for its whole life."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            _, methods = await reader.readexactly(2)
            await reader.readexactly(methods)
            if self.silent:
                await reader.read()
            writer.write(self.greeting)
            _, _, _, kind = await reader.readexactly(4)
            packed = await reader.readexactly(4 if kind == 1 else 16)
            port = int.from_bytes(await reader.readexactly(2), "big")
            address = str(ipaddress.ip_address(packed))
            self.asked.append((address, port))
            if not self.reply:
                await self._relay(reader, writer, address, port)
            else:
                writer.write(bytes((5, self.reply, 0, 1)) + bytes(6))
        writer.close()

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, port: int
    ) -> None:
        there, back = await asyncio.open_connection(address, port)
        # A name, and in the same write the first octets of the peer, which are not the gateway's.
        greeting = await there.read(65_536)
        writer.write(b"\x05\x00\x00\x03\x07gateway\x00\x00" + greeting)
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(reader, back))
            both.create_task(_pump(there, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while octets := await source.read(65_536):
            sink.write(octets)
            await sink.drain()
    sink.close()


@contextlib.asynccontextmanager
async def socks_server() -> AsyncIterator[SocksServer]:
    """A gateway for the length of the block."""
    gateway = SocksServer()
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
    gateway.port = server.sockets[0].getsockname()[1]
    try:
        yield gateway
    finally:
        server.close()
        await asyncio.gather(*gateway.tasks)
