"""Our side of an SMTP connection: aiosmtplib's protocol, with several commands outstanding.

What is written asks for a batch of replies (RFC 2920), which come through a bounded reader and are
matched in order. A connection that is lost, late, closing or talks nonsense answers everything
outstanding with `loss`, a reply of our own; no exception passes through a transaction.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from aiosmtplib import SMTPResponse, SMTPServerDisconnected
from aiosmtplib.protocol import SMTPProtocol

from services.delivery.classify import CLOSING, LATE, lost
from shared.smtp.replies import Reply, ReplyReader

LATELY = 1.0
"""Seconds after a reply within which a peer does not close for idleness."""


def nobody() -> None:
    """Nobody waits for the loss of an active connection but those who wait for replies."""


class _Batch:
    """Replies that are waited for together; `done` is called with all of them."""

    __slots__ = ("done", "patient", "replies", "seconds")

    def __init__(
        self, done: Callable[[list[Reply]], None], seconds: Sequence[float], patient: bool
    ) -> None:
        self.done = done
        self.seconds = seconds
        self.patient = patient
        self.replies: list[Reply] = []

    def finish(self, loss: Reply) -> None:
        """What has not come is answered by the loss."""
        self.replies += [loss] * (len(self.seconds) - len(self.replies))
        self.done(self.replies)


def _give(future: asyncio.Future[list[Reply]], replies: list[Reply]) -> None:
    if not future.done():
        future.set_result(replies)


class PipelinedProtocol(SMTPProtocol):
    """One connection. `loss` is None while it can be used; `wait_reset` while `reset` is not None.

    No reply is waited for beyond `not_after`, in the loop's time, whatever each step may take,
    but that which a patient batch ends with. `heard` is when the peer was last heard, `chunks_told`
    whether its replies to BDAT are known to differ from those to RCPT, and `fresh` whether no
    transaction has begun.
    """

    transport: asyncio.Transport | None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.loss: Reply | None = None
        self.closing = False
        self.on_loss: Callable[[], None] = nobody
        self.not_after = math.inf
        self.heard = 0.0
        self.fresh = True
        self.chunks_told = False
        self._reader = ReplyReader()
        self._buffer = self._reader.rest  # aiosmtplib empties it at STARTTLS
        self._expected: deque[_Batch] = deque()
        self.reset: asyncio.Future[list[Reply]] | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._greeting = self.expect((math.inf,))

    @property
    def usable(self) -> bool:
        """Whether another transaction may begin: not lost, and no 421 came."""
        return self.loss is None and not self.closing

    @property
    def heard_lately(self) -> bool:
        """Whether it can hardly be that the peer is about to close because nothing happens."""
        return self._loop.time() - self.heard < LATELY

    def ask(
        self, data: bytes, seconds: Sequence[float], *, patient: bool = False
    ) -> asyncio.Future[list[Reply]]:
        """Write `data`; the future has the replies it asks for, one for each of `seconds`.

        Each reply may take its `seconds` after the one before. The future never fails: `loss` is
        the reply of a lost link.
        """
        if not self.ready:
            future = self.expect(seconds, patient=patient)
            self.finish(data)
            return future
        future = self._loop.create_future()
        self.request(data, seconds, partial(_give, future), patient=patient)
        return future

    @property
    def ready(self) -> bool:
        """Whether the next reply will be to what is written next."""
        return not (
            self._expected or self.closing or self.loss is not None or self.transport is None
        )

    def request(
        self,
        data: bytes,
        seconds: Sequence[float],
        done: Callable[[list[Reply]], None],
        *,
        patient: bool = False,
    ) -> None:
        """As `ask`, on a link that is `ready`; `done` is called with the replies, once."""
        self._expected.append(_Batch(done, seconds, patient))
        self._allow_next(self._loop.time())
        self.transport.write(data)  # type: ignore[union-attr]

    def expect(
        self, seconds: Sequence[float], *, patient: bool = False
    ) -> asyncio.Future[list[Reply]]:
        """As `ask`, for what is still to be written. No time runs yet."""
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        batch = _Batch(partial(_give, future), seconds, patient)
        if self.closing and self.loss is None:
            self.lose("the peer is about to close it")
        if self.loss is None:
            self._expected.append(batch)
        else:
            batch.finish(self.loss)
        return future

    def finish(self, data: bytes) -> None:
        """Write the last of what `expect` was called for."""
        transport = self.transport
        if self.loss is None and transport is not None:
            self._allow_next(self._loop.time())
            transport.write(data)

    async def push(self, data: bytes | memoryview, seconds: float) -> None:
        """Write; return when the peer took most of it, or the link is lost after `seconds`."""
        transport = self.transport
        if self.loss is not None or transport is None:
            return
        self._allow(seconds)
        transport.write(data)
        if self._paused:
            try:
                await self._drain_helper()
            except OSError as error:
                self.lose(str(error))

    def reset_after(self, data: bytes, seconds: Sequence[float]) -> None:
        """Write what clears the transaction. Its replies are awaited by `wait_reset`."""
        if self.usable:
            self.reset = self.ask(data, seconds)

    async def wait_reset(self) -> None:
        """Return when no transaction is open. A peer that refuses RSET is not used any more."""
        if self.reset is not None:
            replies = await self.reset
            self.reset = None
            self.closing = self.closing or not replies[-1].positive

    async def greeting(self, seconds: float) -> Reply:
        """The reply that nobody asks for."""
        if self.loss is None and self._expected:
            self._allow(seconds)
        return (await self._greeting)[0]

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:
        """The reply to STARTTLS, which aiosmtplib has just written."""
        future = self.expect((timeout or math.inf,))
        if self.loss is None:
            self._allow_next(self._loop.time())
        (reply,) = await future
        self.check(reply)
        return SMTPResponse(reply.code, str(reply).partition(" ")[2])

    def check(self, reply: Reply) -> None:
        """Raises SMTPServerDisconnected if it is the loss of the connection."""
        if reply is self.loss:
            raise SMTPServerDisconnected(reply.text)

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """Give each reply to the batch that waits for it."""
        if self.loss is not None:
            return
        answered: list[_Batch] = []
        self._sort(self._reader.feed(data), answered)
        # Only now: who hears of a reply writes, and nothing that came before may answer that.
        for batch in answered:
            batch.done(batch.replies)

    def _sort(self, replies: Sequence[Reply], answered: list[_Batch]) -> None:
        expected = self._expected
        for reply in replies:
            if not expected:
                self.lose(f"a reply that nobody asked for: {str(reply)[:80]}")
                return
            batch = expected[0]
            got = batch.replies
            got.append(reply)
            if len(got) == len(batch.seconds):
                answered.append(expected.popleft())
            if reply.code == CLOSING:
                self._close_after(reply)
                return
        if self._reader.fault:
            self.lose(self._reader.fault)
        elif replies:
            self._go_on()
        elif not expected:
            self.lose("a part of a reply that nobody asked for")

    def _go_on(self) -> None:
        """A part of a reply gives no more time, only a whole one does."""
        self.heard = self._loop.time()
        if self._expected:
            self._allow_next(self.heard)
        elif self._reader.amid:
            self.lose("a part of a reply that nobody asked for")

    def _close_after(self, reply: Reply) -> None:
        """421: the peer answers nothing more (RFC 5321, 3.8)."""
        self.closing = True
        if self._expected:
            self._end(Reply(CLOSING, reply.enhanced, reply.text))

    def eof_received(self) -> bool:
        """The peer closed."""
        self.lose("the peer closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.lose(str(exc) if exc else "the connection was closed")
        super().connection_lost(exc)

    def _allow_next(self, now: float) -> None:
        """The next reply may take its time from now on."""
        batch = self._expected[0]
        got = len(batch.replies)
        deadline = now + batch.seconds[got]
        if deadline > self.not_after and not (batch.patient and got + 1 == len(batch.seconds)):
            deadline = self.not_after
        self._deadline = deadline
        if deadline < self._timer_at:
            self._set_timer(deadline)

    def _allow(self, seconds: float) -> None:
        """Lose the connection when the time is over; one timer serves many commands."""
        self._deadline = deadline = min(self._loop.time() + seconds, self.not_after)
        if deadline < self._timer_at:
            self._set_timer(deadline)

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._late)

    def _late(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if not self._expected and not self._paused:
            return
        if self._loop.time() >= self._deadline:
            self.lose(LATE)
        elif self._deadline < math.inf:
            self._set_timer(self._deadline)

    def lose(self, why: str) -> None:
        """Drop the connection."""
        self._end(lost(why))

    def _end(self, loss: Reply) -> None:
        if self.loss is not None:
            return
        self.loss = loss
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.transport is not None:
            self.transport.abort()
        expected = list(self._expected)
        self._expected.clear()
        for batch in expected:
            batch.finish(loss)
        self.on_loss()
