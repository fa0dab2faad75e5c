"""A real SMTP receiving server with a scripted behaviour, for the demo and for tests.

    async with Receiver(Script(refused=frozenset({"nobody@"}))) as receiver:
        ...  # send something to receiver.host, receiver.port
        first = (await receiver.wait_for(1))[0]

It accepts mail into lists in memory and never stores or forwards any. `script` may be replaced
while it runs: the next reply follows the new one.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from services.demo.home import Connection
from services.demo.script import Greylist, Received, Script, Stage
from services.demo.session import Session

__all__ = ["Greylist", "Received", "Receiver", "Script", "Stage"]

Condition = int | Callable[[], bool]


class Receiver:
    """Listens from `async with` (or `start`) on.

    `messages`: transactions answered after the dot, in order. `unanswered`: those whose
    connection the script dropped after the dot. `connections`: how many came so far;
    `open_connections`: how many are there now. `raw`: for each connection, in order, all bytes
    received (after STARTTLS: decrypted).
    `keep="headers"` keeps neither contents nor raw bytes, but a digest (see `Received`).
    `tls` makes it offer STARTTLS.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        keep: str = "all",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if keep not in {"all", "headers"}:
            raise ValueError(f"keep is 'all' or 'headers', not {keep!r}")
        self.script = script or Script()
        self.host, self.port = host, port
        self.tls, self.keep = tls, keep
        self.messages: list[Received] = []
        self.unanswered: list[Received] = []
        self.raw: list[bytearray] = []
        self.greylisted_tries = 0
        self._clock = clock
        self._sessions: set[Connection] = set()
        self._tries: dict[tuple[str, str], tuple[int, float]] = {}
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """Connections so far."""
        return len(self.raw)

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._sessions)

    async def start(self) -> None:
        """Listen; `port` is then the real one. Raises OSError if the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Session(self), self.host, self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.close()
        if self._sessions:
            await self.wait_for(lambda: not self._sessions)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def wait_for(self, condition: Condition, timeout: float = 10.0) -> list[Received]:
        """Return `messages` once there are `condition` of them, or once `condition()` is true.

        A callable is asked again whenever a connection comes or goes, bytes come, or a
        transaction ends. Raises TimeoutError after `timeout` seconds.
        """
        met = condition if callable(condition) else lambda: len(self.messages) >= condition
        if not met():
            waiter = (met, asyncio.get_running_loop().create_future())
            self._waiting.append(waiter)
            try:
                async with asyncio.timeout(timeout):
                    await waiter[1]
            finally:
                self._waiting.remove(waiter)
        return self.messages

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock()

    def greylisted(self, reverse_path: str, forward_path: str) -> bool:
        """Whether the script's greylist refuses this try; it is counted."""
        greylist = self.script.greylist
        if greylist is None or not forward_path.startswith(greylist.prefix):
            return False
        now = self.now()
        tries, first = self._tries.get((reverse_path, forward_path), (0, now))
        self._tries[reverse_path, forward_path] = (tries + 1, first)
        refused = greylist.refuses(tries, now - first)
        self.greylisted_tries += refused
        return refused

    def was_greylisted(self, reverse_path: str, forward_path: str) -> bool:
        """Whether the greylist has refused this pair before."""
        return self._tries.get((reverse_path, forward_path), (0, 0.0))[0] > 1

    def opened(self, session: Connection) -> tuple[int, bytearray]:
        """A connection came; gives its number and where its bytes are noted."""
        self._sessions.add(session)
        raw = bytearray()
        self.raw.append(raw)
        self.noticed()
        return len(self.raw), raw

    def closed(self, session: Connection) -> None:
        """A connection went."""
        self._sessions.discard(session)
        self.noticed()

    def took(self, received: Received, *, answered: bool) -> None:
        """A transaction reached its final dot."""
        (self.messages if answered else self.unanswered).append(received)
        self.noticed()

    def noticed(self) -> None:
        """Something happened: whoever waits for it goes on."""
        for met, future in self._waiting:
            if not future.done() and met():
                future.set_result(None)
