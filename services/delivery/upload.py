"""Sends a content: after DATA with its dots stuffed, or in chunks octet for octet (RFC 3030).

Large contents go in blocks, as fast as the peer takes them, and are not copied.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from services.delivery.client import PipelinedProtocol
from shared.settings.sending import TimeoutSettings
from shared.smtp.replies import Reply

BLOCK = 262_144
"""Octets written at a time: the timeout runs anew for each."""
CHUNK = 1_048_576
"""Octets of one BDAT."""
OCTETS_A_DOT = 512
"""With more dots than one for so many octets, they are not looked at one by one."""
UNANSWERED = 2
"""Chunks that may be under way to a peer with PIPELINING."""

Answer = tuple[Reply | None, Reply | None]
"""The refusal that came before the end of the content, or the reply to its end."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds for the reply to each step, and for the peer to take a block of the content."""

    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    final_dot: float = 600.0

    @classmethod
    def of(cls, settings: TimeoutSettings) -> Times:
        """As configured."""
        steps = (settings.mail, settings.rcpt, settings.data, settings.block, settings.final_dot)
        return cls(*(step / 1000 for step in steps))


def stuffed(content: bytes) -> tuple[bytes, bytes]:
    """The content as it follows DATA, and its end with the final dot (RFC 5321, 4.5.2)."""
    text = content
    if _may_begin_a_line_with_a_dot(content):
        text = content.replace(b"\r\n.", b"\r\n..")
    if text[:1] == b".":
        text = b"." + text
    return text, b".\r\n" if text[-2:] == b"\r\n" or not text else b"\r\n.\r\n"


def _may_begin_a_line_with_a_dot(content: bytes) -> bool:
    """Contents with few dots, such as base64: they are found far faster than line ends."""
    at = content.find(b".")
    for _ in range(len(content) // OCTETS_A_DOT):
        if at < 0:
            return False
        if content[at - 1 : at] == b"\n":
            return True
        at = content.find(b".", at + 1)
    return True


async def send_data(
    link: PipelinedProtocol, content: bytes, times: Times, *, pipelining: bool
) -> Answer:
    """The content after a 354."""
    text, end = stuffed(content)
    if len(text) <= BLOCK and link.loss is None:
        return None, (await link.ask(text + end, (times.final_dot,), patient=True))[0]
    return await _last(link, b"", text, end, times)


async def send_chunks(
    link: PipelinedProtocol, content: bytes, times: Times, *, pipelining: bool
) -> Answer:
    """The content as BDATs. The last goes out only when all others were taken."""
    view, start = memoryview(content), 0
    unanswered: deque[asyncio.Future[list[Reply]]] = deque()
    while len(view) - start > CHUNK:
        unanswered.append(link.expect((times.block,)))
        await link.push(b"BDAT %d\r\n" % CHUNK, times.block)
        for at in range(start, start + CHUNK, BLOCK):
            await link.push(view[at : at + BLOCK], times.block)
        start += CHUNK
        left = UNANSWERED - 1 if pipelining and len(view) - start > CHUNK else 0
        while len(unanswered) > left:
            (reply,) = await unanswered.popleft()
            if not reply.positive:
                return reply, None
    head = b"BDAT %d LAST\r\n" % (len(view) - start)
    return await _last(link, head, view[start:], b"", times)


async def _last(
    link: PipelinedProtocol, head: bytes, text: bytes | memoryview, end: bytes, times: Times
) -> Answer:
    if link.loss is not None:
        return link.loss, None
    if len(text) <= BLOCK:
        data = b"".join((head, text, end))
        return None, (await link.ask(data, (times.final_dot,), patient=True))[0]
    answer = link.expect((times.final_dot,), patient=True)
    if head:
        await link.push(head, times.block)
    view, at = memoryview(text), 0
    while len(view) - at > BLOCK and not answer.done():
        await link.push(view[at : at + BLOCK], times.block)
        at += BLOCK
    if answer.done():
        return _early(link, (await answer)[0]), None
    link.finish(b"".join((view[at:], end)))
    return None, (await answer)[0]


def _early(link: PipelinedProtocol, reply: Reply) -> Reply:
    """The peer did not wait for the end of the content: no command can follow."""
    if link.loss is None:
        link.lose("a reply before the end of the content")
    return reply
