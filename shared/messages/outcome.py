"""What became of a recipient in one attempt: no booleans, no exceptions for expected outcomes."""

from __future__ import annotations

from dataclasses import dataclass

from shared.smtp.replies import Reply


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next hop took responsibility: 250 after the final dot.

    With `told` it was asked to notify as the sender wishes, and said that it can (RFC 3461); with
    `timed` likewise to deliver in time (RFC 2852).
    """

    reply: Reply
    told: bool = False
    timed: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now: a 4yz, a link that failed before the final dot, DNS trouble.

    `reason` is one of RETRY_REASONS.
    """

    reply: Reply
    reason: str = "other"


@dataclass(frozen=True, slots=True)
class Failed:
    """Never: a 5yz, or a destination that does not exist. `reason` is one of FAILURE_REASONS."""

    reply: Reply
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The link died after the end of the content, before the reply: perhaps delivered, perhaps not.

    Never tried at another mail exchanger in the same attempt; then `delivery.uncertain` says.
    """

    reply: Reply


Outcome = Delivered | Deferred | Failed | Unknown
