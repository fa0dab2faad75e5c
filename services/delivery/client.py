"""Our side of an SMTP connection: aiosmtplib's, with several commands outstanding (RFC 2920).

Connecting, EHLO and STARTTLS are aiosmtplib's. Replies come through a bounded reader and are
matched in order to those who wait. A connection that is lost, late or talks nonsense answers
everything outstanding with `loss`, a reply of our own; no exception passes through a transaction.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import cast

from aiosmtplib import SMTP, SMTPConnectResponseError, SMTPResponse, SMTPServerDisconnected
from aiosmtplib.protocol import SMTPProtocol

from services.delivery.candidates import Candidate
from shared.messages.outcome import Outcome
from shared.smtp.replies import Reply, parse_reply

LONGEST_REPLY = 32_768
"""Octets of one reply, all lines together."""
_MARKS = (b" ", b"-", b"\r", b"")


def _nobody() -> None:
    """Nobody waits for the loss of an active connection but those who wait for replies."""


class PipelinedProtocol(SMTPProtocol):
    """One connection. `loss` is None while it can be used.

    No reply is waited for beyond `not_after`, in the loop's time, whatever each step may take.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection_lost_callback: Callable[[SMTPProtocol], None] | None = None,
    ) -> None:
        super().__init__(loop, connection_lost_callback)
        self.loss: Reply | None = None
        self.closing = False
        self.on_loss: Callable[[], None] = _nobody
        self._expected: deque[asyncio.Future[Reply]] = deque()
        self._banner: asyncio.Future[Reply] | None = None
        self._lines: list[bytes] = []
        self._size = 0
        self.not_after = math.inf
        self._allowed = self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        """Whether another transaction may begin: not lost, and no 421 came."""
        return self.loss is None and not self.closing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Expect the banner."""
        super().connection_made(transport)
        self._banner = self._expect(1)[0]

    def send(
        self, data: bytes | memoryview, replies: int, seconds: float
    ) -> list[asyncio.Future[Reply]]:
        """Write `data`; a future for each of the `replies` it asks for.

        Each reply may take `seconds`. The futures never fail: `loss` is the reply of a lost link.
        """
        expected = self._expect(replies)
        if self.loss is None:
            self._arm(seconds)
            cast("asyncio.WriteTransport", self.transport).write(data)
        return expected

    async def writable(self, seconds: float) -> None:
        """Return when the peer took most of what was written, or the link is lost."""
        if self.loss is None and self._paused:
            self._arm(seconds)
            try:
                await self._drain_helper()
            except OSError as error:
                self._lose(str(error))

    def _expect(self, count: int) -> list[asyncio.Future[Reply]]:
        futures = [self._loop.create_future() for _ in range(count)]
        if self.loss is None:
            self._expected.extend(futures)
        else:
            for future in futures:
                future.set_result(self.loss)
        return futures

    # What aiosmtplib calls to send rare commands.

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:
        """The banner, or the reply to what aiosmtplib has just written."""
        future, self._banner = self._banner or self._expect(1)[0], None
        if self.loss is None:
            self._arm(timeout or 0.0)
        return self._response(await future)

    async def execute_command(self, *args: bytes, timeout: float | None = None) -> SMTPResponse:
        """One command and its reply. Raises SMTPServerDisconnected."""
        line = b" ".join(args)
        if b"\r" in line or b"\n" in line:
            raise ValueError("a command is one line")
        (future,) = self.send(line + b"\r\n", 1, timeout or 0.0)
        return self._response(await future)

    def _response(self, reply: Reply) -> SMTPResponse:
        if reply is self.loss:
            raise SMTPServerDisconnected(reply.text)
        text = f"{reply.enhanced} {reply.text}" if reply.enhanced else reply.text
        return SMTPResponse(reply.code, text)

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """Take the whole lines; keep the rest, if it is not too long."""
        buffer = self._buffer
        buffer += data
        start = 0
        while self.loss is None and (end := buffer.find(b"\n", start)) >= 0:
            self._take(bytes(buffer[start:end]))
            start = end + 1
        del buffer[:start]
        if len(buffer) > LONGEST_REPLY:
            self._lose("a reply is too long")

    def _take(self, line: bytes) -> None:
        self._size += len(line)
        mark = line[3:4]
        if not self._expected:
            self._lose("a reply that nobody asked for: " + line[:80].decode("utf-8", "replace"))
        elif mark not in _MARKS or not line[:3].isdigit() or line[:1] not in b"2345":
            self._lose("a line that is no reply")
        elif self._size > LONGEST_REPLY:
            self._lose("a reply is too long")
        else:
            self._lines.append(line[4:].rstrip())
            if mark != b"-":
                self._answer(int(line[:3]))

    def _answer(self, code: int) -> None:
        reply = parse_reply(code, b"\n".join(self._lines).decode("utf-8", "replace"))
        self._lines.clear()
        self._size = 0
        self.closing = self.closing or code == 421
        self._deadline = min(self._loop.time() + self._allowed, self.not_after)
        future = self._expected.popleft()
        if not future.done():
            future.set_result(reply)

    def eof_received(self) -> bool:
        """The peer closed."""
        self._lose("the peer closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._lose(str(exc) if exc else "the connection was closed")
        super().connection_lost(exc)

    def _arm(self, seconds: float) -> None:
        """Lose the connection if a reply takes longer; one timer serves many commands."""
        self._allowed = seconds
        self._deadline = min(self._loop.time() + seconds, self.not_after)
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._late)
        elif self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._late)

    def _late(self) -> None:
        self._timer = None
        if not self._expected and not self._paused:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._late)
        else:
            self._lose("the peer took too long")

    def _lose(self, why: str) -> None:
        if self.loss is not None:
            return
        self.loss = loss = Reply(421, "4.4.2", f"Connection lost: {why}")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).abort()
        for future in self._expected:
            if not future.done():
                future.set_result(loss)
        self._expected.clear()
        self.on_loss()


class NextHop(SMTP):
    """aiosmtplib's client around `PipelinedProtocol`. `connect_timeout` is in seconds.

    `better_failure` is the transient failure of a better mail exchanger than `place`, if any.
    """

    protocol: PipelinedProtocol | None
    connect_timeout: float = 30.0
    served = 0
    place: Candidate | None = None
    better_failure: Outcome | None = None

    @property
    def link(self) -> PipelinedProtocol:
        """The connection. Raises SMTPServerDisconnected if there is none."""
        if self.protocol is None:
            raise SMTPServerDisconnected("not connected")
        return self.protocol

    async def _create_connection(self, timeout: float | None) -> SMTPResponse:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.connect_timeout):
            self.transport, self.protocol = await loop.create_connection(
                lambda: PipelinedProtocol(loop, self._on_connection_lost),
                host=self.hostname or "",
                port=self.port or 25,
            )
        response = await self.protocol.read_response(timeout)
        if response.code != 220:
            raise SMTPConnectResponseError(response.code, response.message)
        return response
