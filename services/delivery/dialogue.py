"""What is said in one transaction: envelope and content, in as few round trips as the peer allows.

With PIPELINING the envelope is one write (RFC 2920); with CHUNKING (RFC 3030) a small content goes
with it. Otherwise the content goes out only when somebody wants it. What the replies mean for the
recipients is judged elsewhere; here is only decided whether they can be what was asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from services.delivery.classify import CLOSING
from services.delivery.client import PipelinedProtocol
from services.delivery.upload import Answer, Times, send_chunks, send_data
from shared.smtp.replies import Reply

ONE_WRITE = 65_536
"""Octets of a content that goes out together with its envelope."""


@dataclass(slots=True)
class Said:
    """The replies of one transaction.

    `refusal` answers DATA or a part of the content; `final` the whole content, None if it was not
    sent to its end. `wanted`: somebody is to get it. `garbled`: a reply came in the wrong place,
    so that none can be relied on.
    """

    mail: Reply
    recipients: Sequence[Reply] = ()
    refusal: Reply | None = None
    final: Reply | None = None
    wanted: bool = False
    garbled: bool = False


async def talk(
    link: PipelinedProtocol,
    offered: Mapping[str, str],
    commands: Sequence[bytes],
    content: bytes,
    times: Times,
    *,
    binary: bool = False,
) -> Said:
    """MAIL and RCPTs (`commands`), then the content. No transaction stays open.

    A `binary` content goes in chunks even where replies to them cannot be told from others.
    """
    pipelining = "pipelining" in offered
    first, link.fresh = link.fresh, False
    chunking = "chunking" in offered and (first or link.chunks_told or binary)
    if chunking and pipelining and len(content) <= ONE_WRITE and link.heard_lately:
        said = await _one_write(link, commands, content, times)
    else:
        say = _pipelined if pipelining else _stepwise
        said = await say(link, commands, times, not chunking)
        send = send_chunks if chunking else send_data
        await _send(said, link, content, times, partial(send, pipelining=pipelining))
    final = said.final
    if final is not None and final is not link.loss:
        said.garbled = said.garbled or _is_misplaced(final, said, suspect=chunking and not first)
        if final.code < 300 and "chunking" in offered:
            link.chunks_told = _tells(final, said.recipients)
    return _ended(said, link, times, chunking=chunking)


async def talk_on(
    link: PipelinedProtocol,
    replies: Sequence[Reply],
    final: Reply | None,
    content: bytes,
    times: Times,
) -> Said:
    """The rest of a transaction with PIPELINING and DATA that something else began.

    `replies` answer MAIL, the RCPTs and DATA; `final` the content, None if it has not gone out.
    """
    mail, *recipients, go_ahead = replies
    said = await _after_data(link, mail, recipients, go_ahead, times)
    if final is None:
        await _send(said, link, content, times, partial(send_data, pipelining=True))
        final = said.final
    said.final = final
    if final is not None and final is not link.loss:
        said.garbled = said.garbled or _is_misplaced(final, said, suspect=False)
    return _ended(said, link, times, chunking=False)


async def _send(
    said: Said,
    link: PipelinedProtocol,
    content: bytes,
    times: Times,
    send: Callable[[PipelinedProtocol, bytes, Times], Awaitable[Answer]],
) -> None:
    if said.wanted and said.refusal is None and not said.garbled and link.usable:
        said.refusal, said.final = await send(link, content, times)
        said.garbled = said.refusal is not None and said.refusal.code < 400


def _ended(said: Said, link: PipelinedProtocol, times: Times, *, chunking: bool) -> Said:
    final = said.final
    if said.garbled:
        link.lose("a reply in the wrong place")
    elif said.mail.code < 300 and (final is None or (chunking and final.code >= 300)):
        # The state after a refused BDAT is indeterminate (RFC 3030, 2).
        link.reset_after(b"RSET\r\n", (times.mail,))
    return said


async def _one_write(
    link: PipelinedProtocol, commands: Sequence[bytes], content: bytes, times: Times
) -> Said:
    """One round trip. When nobody wants the content, the peer discards it (RFC 3030, 2)."""
    data = b"".join((*commands, b"BDAT %d LAST\r\n" % len(content), content))
    seconds = (times.mail, *(times.rcpt,) * (len(commands) - 1), times.final_dot)
    mail, *recipients, final = await link.ask(data, seconds, patient=True)
    said = _checked(Said(mail, recipients, None, final), None)
    if any(reply.code == CLOSING and reply is not link.loss for reply in (mail, *recipients)):
        said.final = None  # who says that it closes takes no content
    return said


async def _pipelined(
    link: PipelinedProtocol, commands: Sequence[bytes], times: Times, data: bool
) -> Said:
    envelope = (times.mail, *(times.rcpt,) * (len(commands) - 1))
    if not data:
        mail, *recipients = await link.ask(b"".join(commands), envelope)
        return _checked(Said(mail, recipients), None)
    written = b"".join((*commands, b"DATA\r\n"))
    mail, *recipients, go_ahead = await link.ask(written, (*envelope, times.data))
    return await _after_data(link, mail, recipients, go_ahead, times)


async def _after_data(
    link: PipelinedProtocol,
    mail: Reply,
    recipients: Sequence[Reply],
    go_ahead: Reply,
    times: Times,
) -> Said:
    said = _checked(Said(mail, recipients), go_ahead)
    if go_ahead.code == 354 and not said.wanted and not said.garbled:
        # All were refused, and yet the peer waits for a content (RFC 2920, 3.1).
        await link.ask(b".\r\n", (times.data,))
    return said


async def _stepwise(
    link: PipelinedProtocol, commands: Sequence[bytes], times: Times, data: bool
) -> Said:
    (mail,) = await link.ask(commands[0], (times.mail,))
    said = Said(mail)
    if mail.code < 300:
        seconds = (times.rcpt,)
        said.recipients = [(await link.ask(line, seconds))[0] for line in commands[1:]]
    go_ahead = None
    _checked(said, None)
    if data and said.wanted and link.usable:
        (go_ahead,) = await link.ask(b"DATA\r\n", (times.data,))
    return _checked(said, go_ahead)


def _checked(said: Said, go_ahead: Reply | None) -> Said:
    """Replies are 2yz to 5yz; 354 belongs to DATA only, and to nothing else."""
    for reply in said.recipients:
        if reply.code < 300:
            said.wanted = True
        elif reply.code < 400:
            said.garbled = True
    if said.mail.code >= 300:
        said.wanted = False
        said.garbled = said.garbled or said.mail.code < 400
    if go_ahead is not None and go_ahead.code != 354:
        said.refusal = go_ahead
        said.garbled = said.garbled or go_ahead.code < 400
    return said


def _is_misplaced(final: Reply, said: Said, *, suspect: bool) -> bool:
    """Whether the reply to the content cannot be one.

    The 354 in the middle of DATA shows that replies are in step. With BDAT one reply too many to
    an earlier transaction would make the reply to RCPT count for the content, so on a connection
    that is `suspect` for having had one the reply has to say that it is not about an address.
    """
    if not said.wanted:
        return final.code < 400
    return 300 <= final.code < 400 or (suspect and not _is_about_content(final))


def _tells(final: Reply, recipients: Sequence[Reply]) -> bool:
    """Whether this peer's replies to a content can be told from those to RCPT."""
    return _is_about_content(final) and not any(
        reply.code < 300 and _is_about_content(reply) for reply in recipients
    )


def _is_about_content(reply: Reply) -> bool:
    """By its enhanced status code (RFC 3463, 3): x.1.y is about addresses."""
    return bool(reply.enhanced) and not reply.enhanced.startswith(".1.", 1)
