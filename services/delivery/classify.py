"""What a reply means for a recipient (pure; RFC 5321, 4.2.1 and 4.2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from shared.messages.outcome import Deferred, Delivered, Failed, Outcome
from shared.smtp.replies import Reply

CLOSING = 421
"""The peer closes the connection (RFC 5321, 3.8); a lost link has a reply of this code, too."""
LATE = "the peer took too long"
_LOST = "Connection lost: "


class Stage(StrEnum):
    """What was answered; SESSION is everything before MAIL."""

    SESSION = "session"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"


_BY_SUBJECT = {
    "1": "address",
    "2": "mailbox",
    "4": "routing",
    "5": "protocol",
    "6": "message",
    "7": "policy",
}
_BY_CODE = {
    500: "protocol",
    501: "protocol",
    502: "protocol",
    503: "protocol",
    504: "protocol",
    530: "policy",
    535: "policy",
    551: "address",
    552: "message",
    553: "address",
}


def classify(reply: Reply, stage: Stage) -> Outcome:
    """The outcome of a recipient whose fate `reply` decided at `stage`."""
    if reply.positive and stage is Stage.DOT:
        return Delivered(reply)
    if reply.permanent and not _too_many_recipients(reply, stage):
        return Failed(reply, failure_reason(reply, stage))
    return Deferred(reply, deferral_reason(reply, stage))


def lost(why: str) -> Reply:
    """What stands for the replies that a lost connection does not give."""
    return Reply(CLOSING, "4.4.2", f"{_LOST}{why}")


def deferral_reason(reply: Reply, stage: Stage) -> str:
    """One of RETRY_REASONS for a reply that is not the last word, or that stands for a loss."""
    if reply.enhanced == "4.4.2" and reply.text.startswith(_LOST):
        return "timeout" if reply.text.endswith(LATE) else "connect"
    return failure_reason(reply, stage)


def _too_many_recipients(reply: Reply, stage: Stage) -> bool:
    """552 to RCPT without more detail counts as 452 (RFC 5321, 4.5.3.1.10)."""
    return stage is Stage.RCPT and reply.code == 552 and not reply.enhanced


def failure_reason(reply: Reply, stage: Stage) -> str:
    """One of FAILURE_REASONS for a reply that is not positive."""
    if reply.enhanced == "5.3.4":
        return "message"
    if reply.enhanced:
        return _BY_SUBJECT.get(reply.enhanced.split(".")[1], "other")
    if reply.code == 550:
        return "mailbox" if stage is Stage.RCPT else "policy"
    return _BY_CODE.get(reply.code, "other")


def overruled(outcome: Outcome, better: Outcome | None) -> Outcome:
    """The outcome in view of a transient failure of a better mail exchanger, None if none failed.

    A worse one need not know the mailboxes: its refusal is not the last word.
    """
    return better if better is not None and isinstance(outcome, Failed) else outcome


def unreachable(failures: Sequence[Outcome]) -> Outcome:
    """What it means that every candidate failed, best first.

    A permanent failure of a worse mail exchanger never overrides a transient one of a better.
    """
    for failure in failures:
        if not isinstance(failure, Failed):
            return failure
    return failures[0]
