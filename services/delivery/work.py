"""A job in the hands of this process, and what its owner does with the result."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from services.delivery.candidates import Candidate
from shared.broker.interface import Delivery
from shared.messages.model import DeliveryJob
from shared.messages.outcome import Deferred, Outcome


@dataclass(slots=True)
class Walk:
    """The places that one attempt goes through, best first; `places` is None before the lookup.

    `failures` has the preference of each host that failed as a whole, and how. `spoken` tells
    whether a transaction was begun with any of them. No step of the attempt is begun or waited
    for beyond `not_after`, in the loop's time; 0 until the first step.
    """

    places: deque[Candidate] | None = None
    failures: list[tuple[int, Outcome]] = field(default_factory=list)
    tried: set[Candidate] = field(default_factory=set)
    spoken: bool = False
    not_after: float = 0.0

    def better_failure(self, preference: int) -> Outcome | None:
        """A transient failure of a host that is better than `preference`."""
        for failed, outcome in self.failures:
            if failed < preference and isinstance(outcome, Deferred):
                return outcome
        return None


@dataclass(slots=True, eq=False)
class Work:
    """`content` is None until a large content was fetched. `delivery` is settled exactly once.

    `copies` are deliveries of the same attempt that came meanwhile; they end with it. `since` is
    when it began to wait for a connection, in the loop's time.
    `rest` is the job for the recipients of whom no host has decided yet.
    """

    job: DeliveryJob
    delivery: Delivery
    content: bytes | None = None
    copies: list[Delivery] = field(default_factory=list)
    since: float = 0.0
    walk: Walk = field(default_factory=Walk)
    _decided: dict[int, Outcome] = field(default_factory=dict)

    @property
    def rest(self) -> DeliveryJob:
        """The job as the next host is to see it."""
        if not self._decided:
            return self.job
        recipients = tuple(self.job.recipients[index] for index in self._open())
        return msgspec.structs.replace(self.job, recipients=recipients)

    def decide(self, outcomes: Sequence[Outcome | None]) -> None:
        """Keep the outcomes of `rest`; None for a recipient who may be tried elsewhere."""
        for index, outcome in zip(self._open(), outcomes, strict=True):
            if outcome is not None:
                self._decided[index] = outcome

    def outcomes(self) -> tuple[Outcome, ...]:
        """In the order of the job's recipients, all of whom are decided."""
        return tuple(self._decided[index] for index in range(len(self.job.recipients)))

    def decide_rest(self, outcome: Outcome) -> tuple[Outcome, ...]:
        """No host is left: all outcomes, in the order of the job's recipients."""
        decided = self._decided
        return tuple(decided.get(index, outcome) for index in range(len(self.job.recipients)))

    def _open(self) -> list[int]:
        return [n for n in range(len(self.job.recipients)) if n not in self._decided]


class Owner(Protocol):
    """Gives contents, takes outcomes."""

    async def load(self, work: Work) -> bytes | None:
        """The content; None if the work was settled because there is none to send."""

    def finish(self, work: Work, outcomes: tuple[Outcome, ...]) -> None:
        """The attempt is over: outcomes in the order of the recipients."""

    def release(self, work: Work) -> None:
        """The work was not begun and will not be."""

    def broken(self, work: Work) -> None:
        """An attempt failed by a fault of ours."""
