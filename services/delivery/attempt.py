"""One SMTP transaction on an open connection: an outcome for each recipient, never an exception.

A link that dies after the content has gone out to its end leaves `Unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.delivery.classify import CLOSING, Stage, classify, deferral_reason
from services.delivery.client import PipelinedProtocol
from services.delivery.dialogue import Said, talk, talk_on
from services.delivery.envelope import envelope_commands, obstacle
from services.delivery.secrecy import NEEDS_REQUIRETLS, REASON
from services.delivery.straight import Begun
from services.delivery.upload import Times
from shared.mail.deadline import OVERDUE
from shared.messages.model import DeliveryJob
from shared.messages.outcome import Deferred, Failed, Outcome, Unknown
from shared.smtp.replies import Reply

_REASONS = {OVERDUE.enhanced: "expired", NEEDS_REQUIRETLS.enhanced: REASON}
"""Of what is in the way; "message" where nothing is named."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: `times` for each step of a transaction.

    `attempt` bounds everything before the end of the content, at all hosts together, and `waiting`
    the time that a job is held for a connection. Both and the final dot stay well below the half
    hour after which RabbitMQ takes a message away from a consumer that holds it.
    """

    times: Times = field(default_factory=Times)
    attempt: float = 720.0
    waiting: float = 300.0


@dataclass(frozen=True, slots=True)
class Result:
    """Outcomes in the order of the job's recipients.

    None: the host failed before it could decide and before the end of the content, as `trouble`
    says, so that another host may try. `not_begun`: it failed by ending the link, so that, if the
    connection was an old one, a new one to the same host may try.
    """

    outcomes: tuple[Outcome | None, ...]
    trouble: Outcome | None = None
    not_begun: bool = False


async def transact(
    link: PipelinedProtocol,
    offered: Mapping[str, str],
    job: DeliveryJob,
    content: bytes,
    limits: Limits,
    *,
    now: float = 0.0,
) -> Result:
    """Offer the job to the peer. `offered` are its extensions, in lower case.

    `now`, in seconds since the epoch, is for jobs with a time to be delivered by.
    """
    refusal = obstacle(job, content, offered, now)
    if refusal is not None:
        reason = _REASONS.get(refusal.enhanced, "message")
        return Result((Failed(refusal, reason),) * len(job.recipients))
    if link.reset is not None:
        await link.wait_reset()
    if not link.usable:
        return _undecided(link.loss or _CLOSED, len(job.recipients))
    commands = envelope_commands(job, offered, now)
    said = await talk(link, offered, commands, content, limits.times, binary=job.binary)
    return judge(said, link.loss, len(job.recipients))


async def transact_on(
    link: PipelinedProtocol, begun: Begun, content: bytes, limits: Limits
) -> Result:
    """As `transact`, for a transaction that was begun."""
    said = await talk_on(link, begun.replies, begun.final, content, limits.times)
    return judge(said, link.loss, len(begun.job.recipients))


_CLOSED = Reply(CLOSING, "4.4.2", "The connection is to be closed")


def judge(said: Said, loss: Reply | None, count: int) -> Result:
    """What the replies mean for each of `count` recipients. `loss` is that of the link, if any."""
    final, mail = said.final, said.mail
    if said.garbled and loss is not None:
        return _undecided(loss, count) if final is None else _uncertain(loss, count)
    if final is not None and mail is loss:
        return _uncertain(mail, count)
    if mail.code >= 300:
        outcome = classify(mail, Stage.MAIL)
        decided = isinstance(outcome, Failed)
        return Result((outcome,) * count) if decided else _undecided(mail, count)
    accepted = _accepted(said, loss)
    outcomes = tuple(
        accepted if reply.code < 300 else _refused(reply, said, loss) for reply in said.recipients
    )
    if None not in outcomes:
        return Result(outcomes)
    trouble = _trouble(said, loss)
    return Result(outcomes, _deferred(trouble), not_begun=trouble.code == CLOSING)


def _undecided(reply: Reply, count: int) -> Result:
    return Result((None,) * count, _deferred(reply), not_begun=reply.code == CLOSING)


def _deferred(trouble: Reply) -> Deferred:
    return Deferred(trouble, deferral_reason(trouble, Stage.MAIL))


def _uncertain(loss: Reply, count: int) -> Result:
    return Result((Unknown(loss),) * count)


def _accepted(said: Said, loss: Reply | None) -> Outcome | None:
    """What became of the recipients whose RCPT was accepted."""
    final, refusal = said.final, said.refusal
    if final is not None:
        return Unknown(final) if final is loss else classify(final, Stage.DOT)
    if refusal is None or refusal.code == CLOSING:
        return None
    return classify(refusal, Stage.DATA)


def _refused(recipient: Reply, said: Said, loss: Reply | None) -> Outcome | None:
    if recipient.code != CLOSING:
        return classify(recipient, Stage.RCPT)
    return Unknown(recipient) if said.final is not None and recipient is loss else None


def _trouble(said: Said, loss: Reply | None) -> Reply:
    """Why nothing is known of some recipients: what the peer said of its end, else ours."""
    for reply in (*said.recipients, said.refusal):
        if reply is not None and reply.code == CLOSING:
            return reply
    return loss or _CLOSED
