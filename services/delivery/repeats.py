"""What this process has just done (pure): a job that is delivered to us twice is sent once.

Brokers redeliver what was finished but not settled in time. Only our own job ids count, never the
Message-ID of a mail, and only attempts in which a receiver may have taken the mail.
"""

from __future__ import annotations

from collections import OrderedDict

from shared.messages.model import DeliveryJob
from shared.messages.outcome import Delivered, Outcome, Unknown

CAPACITY = 4096

Key = tuple[str, int]
"""Job id and attempt."""


def key_of(job: DeliveryJob) -> Key:
    """Names one attempt of one job."""
    return (job.id, job.attempt)


class Repeats:
    """The outcomes of the last attempts, by key; the oldest are forgotten."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        # Not a dict: to find its first key takes as long as many were deleted before it.
        self._outcomes: OrderedDict[Key, tuple[Outcome, ...]] = OrderedDict()

    def remember(self, key: Key, outcomes: tuple[Outcome, ...]) -> None:
        """Keep the outcomes, if it matters that the job is not sent again."""
        if any(isinstance(outcome, Delivered | Unknown) for outcome in outcomes):
            self.keep(key, outcomes)

    def keep(self, key: Key, outcomes: tuple[Outcome, ...]) -> None:
        """Keep the outcomes."""
        known = self._outcomes
        known[key] = outcomes
        if len(known) > self._capacity:
            known.popitem(last=False)

    def recall(self, job: DeliveryJob) -> tuple[Outcome, ...] | None:
        """What became of that attempt, None if this process did not just make it."""
        outcomes = self._outcomes.get(key_of(job))
        if outcomes is None or len(outcomes) != len(job.recipients):
            return None
        return outcomes
