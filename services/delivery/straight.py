"""A transaction as long as all goes well: no task, no future, two writes.

Nearly all transactions are like this: PIPELINING, a content that fits one write, nobody refused.
The moment a reply is not the one that was hoped for, `dialogue` goes on from there. Two tasks
switched and two futures a message were a fifth of what it costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.delivery.client import PipelinedProtocol
from services.delivery.envelope import envelope_commands, obstacle
from services.delivery.upload import Times, stuffed
from services.delivery.work import Work
from shared.messages.model import DeliveryJob
from shared.smtp.replies import Reply

MOST_OCTETS = 65_536
"""Of a content that goes out in one write."""
GO_AHEAD = 354


@dataclass(frozen=True, slots=True)
class Begun:
    """A transaction to go on with: the replies to its envelope, and to the content if it went."""

    work: Work
    job: DeliveryJob
    replies: list[Reply]
    final: Reply | None = None


class Straight:
    """The straight way on one connection; ends in `delivered` or `crooked`, which never raise."""

    def __init__(
        self,
        link: PipelinedProtocol,
        offered: Mapping[str, str],
        times: Times,
        delivered: Callable[[Work, DeliveryJob, Reply], None],
        crooked: Callable[[Begun], None],
    ) -> None:
        self._link = link
        self._offered = offered
        self._times = times
        self._delivered = delivered
        self._crooked = crooked
        self._loop = asyncio.get_running_loop()
        self._single = (times.mail, times.rcpt, times.data)
        self._final = (times.final_dot,)
        self._work: Work
        self._job: DeliveryJob
        self._content = b""
        self._replies: list[Reply] = []

    def begin(self, work: Work, job: DeliveryJob, content: bytes) -> bool:
        """Whether the transaction has begun; it has not where something may be in the way."""
        link, offered = self._link, self._offered
        if (
            len(content) > MOST_OCTETS
            or link.reset is not None
            or not link.ready
            or obstacle(job, content, offered) is not None
        ):
            return False
        commands = envelope_commands(job, offered)
        commands.append(b"DATA\r\n")
        times = self._times
        count = len(commands) - 2
        seconds = self._single if count == 1 else (times.mail, *(times.rcpt,) * count, times.data)
        self._work, self._job, self._content = work, job, content
        link.fresh = False
        link.request(b"".join(commands), seconds, self._answered)
        return True

    def _answered(self, replies: list[Reply]) -> None:
        self._replies = replies
        if self._link.ready and replies[-1].code == GO_AHEAD:
            for reply in replies[:-1]:
                if reply.code >= 300:
                    break
            else:
                # Not at once: a reply too many may be about to be read, and count for the content.
                self._loop.call_soon(self._send)
                return
        self._give_over()

    def _send(self) -> None:
        link = self._link
        if link.ready:
            text, end = stuffed(self._content)
            link.request(text + end, self._final, self._ended, patient=True)
        else:
            self._give_over()

    def _give_over(self) -> None:
        self._content = b""
        self._crooked(Begun(self._work, self._job, self._replies))

    def _ended(self, replies: list[Reply]) -> None:
        self._content = b""
        final = replies[0]
        if final.code < 300:
            self._delivered(self._work, self._job, final)
        else:
            self._crooked(Begun(self._work, self._job, self._replies, final))


def straight_way(offered: Mapping[str, str]) -> bool:
    """Whether a peer with these extensions, in lower case, is spoken to like this."""
    return "pipelining" in offered and "chunking" not in offered
