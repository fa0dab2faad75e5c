"""One SMTP transaction on an open connection: an outcome for each recipient, never an exception.

With PIPELINING the envelope is one write (RFC 2920), else it goes command by command. The content
goes out only when somebody wants it. A link that dies after the final dot leaves `Unknown`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.delivery.classify import Stage, classify
from services.delivery.client import PipelinedProtocol
from services.delivery.envelope import envelope_commands, obstacle
from shared.messages.model import DeliveryJob
from shared.messages.outcome import Deferred, Failed, Outcome, Unknown
from shared.smtp.replies import Reply

CLOSING = 421
"""The peer closes the connection (RFC 5321, 3.8); a lost link has a reply of this code, too."""
CHUNK = 262_144
"""Octets written at a time: the timeout runs anew for each."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for the reply to a command, and for the one after the final dot.

    `attempt` bounds everything before the dot, at all hosts together, and `waiting` the time that
    a job is held for a connection. Both and the dot stay well below the half hour after which
    RabbitMQ takes a message away from a consumer that holds it.
    """

    command: float
    final_dot: float
    attempt: float = 720.0
    waiting: float = 300.0


@dataclass(frozen=True, slots=True)
class Result:
    """Outcomes in the order of the job's recipients.

    None: the host failed before it could decide and before the final dot, as `trouble` says, so
    that another host may try. `not_begun`: the link ended before any word on MAIL, so that
    another connection to the same host may try.
    """

    outcomes: tuple[Outcome | None, ...]
    trouble: Outcome | None = None
    not_begun: bool = False


@dataclass(frozen=True, slots=True)
class _Envelope:
    mail: Reply
    recipients: Sequence[Reply]
    data: Reply | None

    @property
    def wanted(self) -> bool:
        return self.mail.positive and any(reply.positive for reply in self.recipients)


def stuffed(content: bytes) -> bytes:
    """The content as it follows DATA, with its final dot (RFC 5321, 4.5.2)."""
    text = content.replace(b"\r\n.", b"\r\n..")
    if text[:1] == b".":
        text = b"." + text
    return text + (b".\r\n" if text[-2:] == b"\r\n" or not text else b"\r\n.\r\n")


async def transact(
    link: PipelinedProtocol,
    offered: Mapping[str, str],
    job: DeliveryJob,
    content: bytes,
    limits: Limits,
) -> Result:
    """Offer the job to the peer. `offered` are its extensions, in lower case."""
    refusal = obstacle(job, content, offered)
    if refusal is not None:
        return Result((Failed(refusal, "message"),) * len(job.recipients))
    commands = envelope_commands(job, offered)
    envelope = await (_at_once if "pipelining" in offered else _step_by_step)(
        link, commands, limits.command
    )
    final = await _content(link, envelope, content, limits)
    if not envelope.mail.positive:
        return _mail_refused(envelope.mail, len(job.recipients))
    outcomes = tuple(_outcome(link, envelope, reply, final) for reply in envelope.recipients)
    trouble = None
    if None in outcomes:
        trouble = Deferred(link.loss or _first_closing(envelope))
    return Result(outcomes, trouble)


def _mail_refused(mail: Reply, recipients: int) -> Result:
    outcome = classify(mail, Stage.MAIL)
    if isinstance(outcome, Failed):
        return Result((outcome,) * recipients)
    return Result((None,) * recipients, outcome, not_begun=mail.code == CLOSING)


def _first_closing(envelope: _Envelope) -> Reply:
    said = [*envelope.recipients, envelope.data or envelope.mail]
    return next((reply for reply in said if reply.code == CLOSING), said[-1])


async def _at_once(link: PipelinedProtocol, commands: list[bytes], seconds: float) -> _Envelope:
    futures = link.send(b"".join(commands), len(commands), seconds)
    await futures[-1]
    mail, *recipients, data = [future.result() for future in futures]
    return _Envelope(mail, recipients, data)


async def _step_by_step(
    link: PipelinedProtocol, commands: list[bytes], seconds: float
) -> _Envelope:
    mail = await link.send(commands[0], 1, seconds)[0]
    if not mail.positive:
        return _Envelope(mail, (), None)
    recipients = [await link.send(line, 1, seconds)[0] for line in commands[1:-1]]
    envelope = _Envelope(mail, recipients, None)
    if not envelope.wanted:
        return envelope
    return _Envelope(mail, recipients, await link.send(commands[-1], 1, seconds)[0])


async def _content(
    link: PipelinedProtocol, envelope: _Envelope, content: bytes, limits: Limits
) -> Reply | None:
    """The reply to the content, None if it was not sent to its end."""
    if envelope.data is not None and envelope.data.code == 354:
        if envelope.wanted:
            return await _send_content(link, stuffed(content), limits)
        await link.send(b".\r\n", 1, limits.command)[0]
    elif envelope.mail.positive and link.usable:
        reset = await link.send(b"RSET\r\n", 1, limits.command)[0]
        link.closing = link.closing or not reset.positive
    return None


async def _send_content(link: PipelinedProtocol, text: bytes, limits: Limits) -> Reply | None:
    last = 0
    if len(text) > CHUNK:
        view = memoryview(text)
        last = (len(text) - 1) // CHUNK * CHUNK
        for start in range(0, last, CHUNK):
            link.send(view[start : start + CHUNK], 0, limits.command)
            await link.writable(limits.command)
        text = text[last:]
    if link.loss is not None:
        return None
    link.not_after = math.inf  # giving up now could make a duplicate
    return await link.send(text, 1, limits.final_dot)[0]


def _outcome(
    link: PipelinedProtocol, envelope: _Envelope, recipient: Reply, final: Reply | None
) -> Outcome | None:
    if not recipient.positive:
        return None if recipient.code == CLOSING else classify(recipient, Stage.RCPT)
    if final is None:
        return _without_content(envelope)
    if final is link.loss:
        return Unknown(final)
    return classify(final, Stage.DOT)


def _without_content(envelope: _Envelope) -> Outcome | None:
    """The content was not sent to its end: DATA was refused, or the link died on the way."""
    data = envelope.data
    if data is None or data.code in (354, CLOSING):
        return None
    return classify(data, Stage.DATA)
