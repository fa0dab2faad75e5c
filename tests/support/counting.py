"""A real SMTP receiver that counts, and tells which limits were exceeded.

    async with CountingReceiver() as receiver:
        ...  # any number of workers send to 127.0.0.1, receiver.port
    assert receiver.violations(Limits(connections=3, messages_per_second=20)) == []

It offers PIPELINING and takes everything. Several may run in one process; workers may be in others.
Times are monotonic seconds, taken when bytes are read here: `JITTER` allows for how late that may
be on a busy machine. `parts` is the number of partitions over which the site is spread, each of
which has a burst of one message of its own.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

from shared.plan.limits import Limits

JITTER = 0.3
"""Seconds between a message's begin and the moment it is read here, at most."""
GRACE = 0.02
"""Seconds by which the end of a connection may be read after the begin of the next."""
MINUTE = 60.0


@dataclass(eq=False)
class Counted:
    """One connection: `mails` are the times of MAIL, `recipients` those of each transaction."""

    start: float
    end: float = float("inf")
    mails: list[float] = field(default_factory=list)
    recipients: list[int] = field(default_factory=list)


class CountingReceiver:
    """Listens in `async with`. `delay`: seconds from the final dot to its reply.

    `silent` accepts connections and says nothing. `received` are the forward-paths, in order.
    """

    def __init__(self, *, delay: float = 0.0, silent: bool = False) -> None:
        self.delay = delay
        self.silent = silent
        self.port = 0
        self.connections: list[Counted] = []
        self.received: list[str] = []
        self.sessions: set[_Session] = set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Session(self), "127.0.0.1", 0, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for session in tuple(self.sessions):
            session.abort()

    def took(self, recipients: list[str]) -> None:
        """A transaction is over."""
        self.received += recipients
        self._changed.set()

    async def wait_for(self, count: int, timeout: float = 60.0) -> None:
        """Return once so many recipients were received. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while len(self.received) < count:
                self._changed.clear()
                await self._changed.wait()

    def violations(self, limits: Limits, parts: int = 1) -> list[str]:
        """What exceeded these limits, which held all the time."""
        found = [
            f"{len(one.mails)} messages on one connection"
            for one in self.connections
            if len(one.mails) > limits.messages_per_connection
        ]
        found += [
            f"{count} recipients in one transaction"
            for one in self.connections
            for count in one.recipients
            if count > limits.recipients_per_transaction
        ]
        if (most := self.most_at_once()) > limits.connections:
            found.append(f"{most} connections at once")
        if limits.connections_per_minute and self.most_a_minute() > limits.connections_per_minute:
            found.append(f"{self.most_a_minute()} connections in a minute")
        rate = limits.messages_per_second
        if rate and (burst := self.burst(rate)) > parts + 1 + rate * JITTER:
            found.append(f"{burst:.1f} messages at once beside {rate} a second")
        return found

    def most_at_once(self) -> int:
        """The most connections that were open at a time."""
        events = sorted(
            event
            for one in self.connections
            for event in ((one.start, 1), (max(one.start, one.end - GRACE), -1))
        )
        most = now = 0
        for _, change in events:
            now += change
            most = max(most, now)
        return most

    def most_a_minute(self) -> int:
        """The most connections that came within any minute."""
        starts = sorted(one.start for one in self.connections)
        return max(
            (bisect_right(starts, start + MINUTE) - n for n, start in enumerate(starts)), default=0
        )

    def burst(self, rate: float) -> float:
        """How many messages came beyond `rate` in any time, at most."""
        most, level, last = 0.0, 0.0, 0.0
        for at in sorted(at for one in self.connections for at in one.mails):
            level = max(0.0, level - rate * (at - last)) + 1
            last = at
            most = max(most, level)
        return most


class _Session(asyncio.Protocol):
    def __init__(self, home: CountingReceiver) -> None:
        self._home = home
        self._buffer = b""
        self._in_data = False
        self._recipients: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._counted = Counted(time.monotonic())
        self._home.connections.append(self._counted)
        self._home.sessions.add(self)
        if not self._home.silent:
            self._transport.write(b"220 counting.test ESMTP\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._over()
        self._home.sessions.discard(self)

    def abort(self) -> None:
        self._transport.abort()

    def _over(self) -> None:
        self._counted.end = min(self._counted.end, time.monotonic())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        replies: list[bytes] = []
        while self._take(replies):
            pass
        if replies:
            self._transport.write(b"".join(replies))

    def _take(self, replies: list[bytes]) -> bool:
        """Whether there was a whole command or content."""
        mark = b"\r\n.\r\n" if self._in_data else b"\r\n"
        end = self._buffer.find(mark)
        if end < 0:
            return False
        line, self._buffer = self._buffer[:end], self._buffer[end + len(mark) :]
        if self._in_data:
            self._finish(replies)
        else:
            self._command(line, replies)
        return True

    def _command(self, line: bytes, replies: list[bytes]) -> None:
        match line[:4].upper():
            case b"EHLO":
                replies.append(b"250-counting.test\r\n250-8BITMIME\r\n250 PIPELINING\r\n")
                return
            case b"MAIL":
                self._counted.mails.append(time.monotonic())
                self._recipients = []
            case b"RCPT":
                self._recipients.append(line[line.index(b"<") + 1 : line.index(b">")].decode())
            case b"DATA":
                self._in_data = True
                replies.append(b"354 go on\r\n")
                return
            case b"QUIT":
                self._over()
                replies.append(b"221 bye\r\n")
                self._transport.write(b"".join(replies))
                replies.clear()
                self._transport.close()
                return
        replies.append(b"250 ok\r\n")

    def _finish(self, replies: list[bytes]) -> None:
        self._in_data = False
        self._counted.recipients.append(len(self._recipients))
        recipients = self._recipients
        if self._home.delay:
            loop = asyncio.get_running_loop()
            loop.call_later(self._home.delay, self._answer_later, recipients)
        else:
            self._home.took(recipients)
            replies.append(b"250 ok\r\n")

    def _answer_later(self, recipients: list[str]) -> None:
        if not self._transport.is_closing():
            self._home.took(recipients)
            self._transport.write(b"250 ok\r\n")
