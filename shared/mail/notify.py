"""Of what a sender wants to be told about a recipient (pure; RFC 3461, 4.1)."""

from __future__ import annotations

from collections.abc import Iterable

from shared.messages.model import Recipient
from shared.smtp.parameters import NEVER, Notify


def wants(recipient: Recipient, what: Notify) -> bool:
    """Without a NOTIFY failures are told of, and nothing else."""
    asked = recipient.notify
    return what.value in asked if asked else what is Notify.FAILURE


def wants_lateness(recipient: Recipient) -> bool:
    """Whether to tell that a deadline passed: who set it asked, unless a NOTIFY leaves it out."""
    return not recipient.notify or Notify.DELAY.value in recipient.notify


def merged(asked: Iterable[str]) -> str:
    """What several RCPTs of one address ask for together: whatever one of them does.

    NEVER holds only where all say so: a failure that one of them would have been told of is told.
    """
    wishes = dict.fromkeys(asked)
    if set(wishes) <= {NEVER, ""} or len(wishes) == 1:
        return "" if "" in wishes else next(iter(wishes), "")
    words = {word for wish in wishes for word in (wish or Notify.FAILURE).split(",")}
    return ",".join(each for each in Notify if each in words)
