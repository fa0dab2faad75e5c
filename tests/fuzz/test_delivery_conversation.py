"""Whole transactions with a receiver that answers anything, at any time, in any pieces.

No exception, one outcome for each recipient, `Delivered` only after a 2yz that followed the whole
content, and after the content no second host.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.delivery.attempt import Limits, Result, transact, transact_on
from services.delivery.client import PipelinedProtocol
from services.delivery.straight import Begun, Straight, straight_way
from services.delivery.upload import Times
from services.delivery.work import Work
from shared.messages.model import Content, DeliveryJob, Recipient
from shared.messages.outcome import Delivered, Unknown
from shared.smtp.replies import Reply

TEXT = b"Subject: x\r\n\r\n.dot\r\nMAIL FROM:<in@the.content>\r\n"
WORK = cast("Work", None)
"""Whoever sends only hands it back."""
LIMITS = Limits(Times(60, 60, 60, 60, 60))
CLOSE, RESET = b"<close>", b"<reset>"
ANSWERS = st.lists(
    st.sampled_from(
        [
            b"250 2.1.0 Ok\r\n",
            b"250 2.1.5 Ok\r\n",
            b"250 2.0.0 Queued\r\n",
            b"250 Ok\r\n",
            b"250-2.0.0 Many\r\n250 2.0.0 lines\r\n",
            b"354 Go\r\n",
            b"354 Go\r\n250 one too many\r\n",
            b"450 4.2.0 Later\r\n",
            b"550 5.1.1 Nobody\r\n",
            b"552 5.3.4 Large\r\n",
            b"421 4.3.2 Closing\r\n",
            b"999 What\r\n",
            b"250-never ending",
            b"\x00\r\n",
            b"250 a\r\n250 b\r\n250 c\r\n",
            b"",
            CLOSE,
            RESET,
        ]
    ),
    max_size=12,
)
USUAL = {b"MAIL": b"250 2.1.0 Ok\r\n", b"RCPT": b"250 2.1.5 Ok\r\n", b"DATA": b"354 Go\r\n"}
EXTENSIONS = st.sets(st.sampled_from(["pipelining", "chunking", "8bitmime", "size"]))


@dataclass
class Transaction:
    """Whether the peer had the whole content of one, and then said 2yz."""

    whole: bool = False
    accepted: bool = False


@dataclass
class Peer(asyncio.Transport):
    """Reads commands and contents; to each answers the next of `answers`, then as usual."""

    answers: list[bytes]
    piece: int
    seen: Transaction = field(default_factory=Transaction)

    def __post_init__(self) -> None:
        super().__init__()
        self.cut = False
        self.protocol: PipelinedProtocol
        self._buffer = b""
        self._in_data = False
        self._chunk = 0
        self._last = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._buffer += bytes(data)
        # With BDAT all of it may be there before the first answer.
        self.seen.whole = self.seen.whole or (b" LAST\r\n" + TEXT) in self._buffer
        asyncio.get_running_loop().call_soon(self._work)

    def is_closing(self) -> bool:
        return self.cut

    def abort(self) -> None:
        self.cut = True

    def _work(self) -> None:
        while not self.cut and (verb := self._take()):
            self._answer(verb)

    def _take(self) -> bytes:
        """The next command, or `end` of a content; nothing while it is not whole."""
        if self._in_data:
            content, dot, rest = (b"\r\n" + self._buffer).partition(b"\r\n.\r\n")
            if not dot:
                return b""
            self._buffer, self._in_data = rest, False
            self.seen.whole = content.endswith(b"MAIL FROM:<in@the.content>")
            return b"end"
        line, end, rest = self._buffer.partition(b"\r\n")
        chunk = re.fullmatch(rb"BDAT (\d+) LAST", line)
        if not end or (chunk and len(rest) < int(chunk[1])):
            return b""
        size = int(chunk[1]) if chunk else 0
        self._buffer = rest[size:]
        return b"end" if chunk else line[:4]

    def _answer(self, verb: bytes) -> None:
        usual = USUAL.get(verb, b"250 2.0.0 Ok\r\n")
        answer = self.answers.pop(0) if self.answers else usual
        if answer == RESET:
            self.protocol.connection_lost(ConnectionResetError())
        elif answer == CLOSE:
            self.protocol.eof_received()
        else:
            self._in_data = verb == b"DATA" and answer.startswith(b"354")
            self.seen.accepted |= self.seen.whole and b"250 " in answer
            for at in range(0, len(answer), self.piece):
                self.protocol.data_received(answer[at : at + self.piece])

    def finish(self) -> None:
        """Whoever still waits hears no more."""
        self.protocol.connection_lost(None)


def job(count: int) -> DeliveryJob:
    recipients = tuple(Recipient(f"r{number}@b.test") for number in range(count))
    content = Content(len(TEXT), memoryview(TEXT))
    return DeliveryJob("J", "M", 0.0, "s@a.test", recipients, content, "b.test", ())


Send = Callable[[PipelinedProtocol, Mapping[str, str], DeliveryJob], Awaitable[Result]]


async def in_turn(link: PipelinedProtocol, offered: Mapping[str, str], job: DeliveryJob) -> Result:
    return await transact(link, offered, job, TEXT, LIMITS)


async def straight_on(
    link: PipelinedProtocol, offered: Mapping[str, str], job: DeliveryJob
) -> Result:
    """The straight way as far as it goes, as `line` has it."""
    over: asyncio.Future[Begun | Reply] = asyncio.get_running_loop().create_future()
    straight = Straight(
        link, offered, LIMITS.times, lambda _work, _job, final: over.set_result(final),
        over.set_result,
    )  # fmt: skip
    if not (straight_way(offered) and straight.begin(WORK, job, TEXT)):
        return await in_turn(link, offered, job)
    end = await over
    if isinstance(end, Begun):
        return await transact_on(link, end, TEXT, LIMITS)
    return Result((Delivered(end),) * len(job.recipients))


async def converse(
    answers: list[bytes],
    piece: int,
    offered: set[str],
    counts: list[int],
    send: Send = straight_on,
) -> list[tuple[Result, Transaction, int]]:
    link = PipelinedProtocol(asyncio.get_running_loop())
    peer = Peer(answers, piece)
    peer.protocol = link
    link.connection_made(peer)
    link.data_received(b"220 Hello\r\n")
    results = []
    for count in counts:
        peer.seen = seen = Transaction()
        task = asyncio.ensure_future(send(link, dict.fromkeys(offered, ""), job(count)))
        for _ in range(200):
            await asyncio.sleep(0)
        if not task.done():
            peer.finish()
        results.append((await task, seen, count))
    return results


@settings(deadline=None, max_examples=300)
@given(ANSWERS, st.integers(1, 40), EXTENSIONS, st.lists(st.integers(1, 3), max_size=3))
def test_a_receiver_that_says_anything(
    answers: list[bytes], piece: int, offered: set[str], counts: list[int]
) -> None:
    for result, seen, count in asyncio.run(converse(answers, piece, offered, counts)):
        assert len(result.outcomes) == count
        assert (None in result.outcomes) == (result.trouble is not None)
        delivered = any(isinstance(outcome, Delivered) for outcome in result.outcomes)
        assert not delivered or seen.accepted
        if any(isinstance(outcome, Unknown) for outcome in result.outcomes):
            assert seen.whole
        if seen.whole and "chunking" not in offered:
            assert result.trouble is None


@settings(deadline=None, max_examples=300)
@given(ANSWERS, st.lists(st.integers(1, 3), max_size=3))
@example([b"250 a\r\n250 b\r\n250 c\r\n", b"354 Go\r\n"], [2])
@example([b"250 a\r\n250 b\r\n", b"354 Go\r\n"], [1])
def test_the_straight_way_ends_where_the_other_does(
    answers: list[bytes], counts: list[int]
) -> None:
    offered = {"pipelining"}
    # Whole answers: of pieces in one turn of the loop a task sees all, a callback the first.
    one, other = (
        asyncio.run(converse(list(answers), 1000, offered, counts, send))
        for send in (in_turn, straight_on)
    )
    assert one == other


@settings(deadline=None)
@given(EXTENSIONS, st.integers(1, 40), st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_a_good_receiver_gets_everything(offered: set[str], piece: int, counts: list[int]) -> None:
    for result, seen, count in asyncio.run(converse([], piece, offered, counts)):
        assert seen.whole
        assert [type(outcome) for outcome in result.outcomes] == [Delivered] * count
