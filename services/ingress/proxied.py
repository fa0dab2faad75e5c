"""Accepts connections that are no session yet: a PROXY header may come first, or TLS.

The header is looked at before it is taken from the socket, so that what follows, be it TLS or
SMTP, is left for whoever reads then.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from services.ingress.proxy import LONGEST, ProxyError, ProxyHeader, parse_proxy_header
from shared import metrics
from shared.logs import clip, get_logger

HEADER_TIMEOUT = 5.0
"""Seconds until the header must be there."""
NOBODY = "0.0.0.0"
_PAUSE = 0.02
"""Seconds between two looks at a header that is not whole."""
_count_refused = metrics.refused_messages.labels("proxy").inc
_count_no_room = metrics.refused_messages.labels("load").inc

Serve = Callable[[socket.socket, str], Coroutine[Any, Any, None]]


class Room(Protocol):
    """See `services.ingress.sessions.Sessions`."""

    def wait(self) -> bool:
        """Whether there is room for a connection that is no session yet."""

    def waited(self) -> None:
        """It takes up no room any more."""


class ProxiedServer:
    """Accepts on a bound socket. `expects` tells of which peers a header must come first.

    `serve` gets each connection, without its header, and the client's address. Until then it takes
    up `room`; where there is none it is closed.
    """

    def __init__(
        self,
        sock: socket.socket,
        expects: Callable[[str], bool],
        serve: Serve,
        room: Room,
        *,
        timeout: float = HEADER_TIMEOUT,
    ) -> None:
        self._sock = sock
        self._expects = expects
        self._serve = serve
        self._room = room
        self._timeout = timeout
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, backlog: int) -> None:
        """Listen."""
        self._sock.setblocking(False)
        self._sock.listen(backlog)
        self._start(self._accept())

    def close(self) -> None:
        """Accept no more."""
        for task in self._tasks:
            task.cancel()
        self._sock.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, peer = await loop.sock_accept(self._sock)
            except OSError as error:
                get_logger().error("cannot accept", error=str(error))
                await asyncio.sleep(1)
            else:
                self._take(client, str(peer[0]).partition("%")[0])

    def _take(self, client: socket.socket, peer: str) -> None:
        if self._room.wait():
            self._start(self._begin(client, peer))
        else:
            _count_no_room()
            client.close()

    async def _begin(self, client: socket.socket, peer: str) -> None:
        try:
            try:
                address = await self._address(client, peer)
            finally:
                self._room.waited()
            await self._serve(client, address)
        except (ProxyError, TimeoutError, OSError) as error:
            _count_refused()
            why = clip(str(error)) or "no PROXY header in time"
            get_logger().warning("connection refused", client=peer, why=why)
            client.close()
        except asyncio.CancelledError:
            client.close()
            raise

    async def _address(self, client: socket.socket, peer: str) -> str:
        if not self._expects(peer):
            return peer
        async with asyncio.timeout(self._timeout):
            header = await _read_header(client)
        # A balancer's own rights are not for whoever it does not name.
        return header.source or NOBODY


async def _read_header(client: socket.socket) -> ProxyHeader:
    while True:
        await _readable(client)
        with contextlib.suppress(BlockingIOError):
            octets = client.recv(LONGEST, socket.MSG_PEEK)
            if not octets:
                raise ProxyError("closed before its PROXY header")
            header = parse_proxy_header(octets)
            if header is not None:
                client.recv(header.length)
                return header
        await asyncio.sleep(_PAUSE)


async def _readable(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(client, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(client)
