"""Of what a sender wants to be told about a recipient (pure; RFC 3461, 4.1)."""

from __future__ import annotations

from shared.messages.model import Recipient
from shared.smtp.parameters import Notify


def wants(recipient: Recipient, what: Notify) -> bool:
    """Without a NOTIFY failures are told of, and nothing else."""
    asked = recipient.notify
    return what.value in asked if asked else what is Notify.FAILURE
