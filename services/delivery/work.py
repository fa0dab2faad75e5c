"""A job in the hands of this process, and what its owner does with the result."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from services.delivery.candidates import Candidate
from services.delivery.holding import Partition
from services.delivery.secrecy import connections_of
from services.delivery.waiting import Waiting
from shared.broker.interface import Delivery
from shared.events.model import Hop
from shared.messages.model import Content, DeliveryJob, MessageClass
from shared.messages.outcome import Deferred, Delivered, Outcome


def always() -> bool:
    """Nobody has anything against it."""
    return True


@dataclass(slots=True)
class Walk:
    """The places that one attempt goes through, best first; `places` is None before the lookup.

    `failures` has the preference of each host that failed as a whole, and how. `spoken` tells
    whether a transaction was begun with any of them. No step of the attempt is begun or waited
    for beyond `not_after`, in the loop's time, which stands still for a turn; `began` is when the
    first began, in monotonic seconds. Both are 0 until then. `may_connect` is asked before each
    connection.
    """

    places: deque[Candidate] | None = None
    failures: list[tuple[int, Outcome]] = field(default_factory=list)
    tried: set[Candidate] = field(default_factory=set)
    spoken: bool = False
    not_after: float = 0.0
    began: float = 0.0
    may_connect: Callable[[], bool] = always

    def better_failure(self, preference: int) -> Outcome | None:
        """A transient failure of a host that is better than `preference`."""
        for failed, outcome in self.failures:
            if failed < preference and isinstance(outcome, Deferred):
                return outcome
        return None


class Work(Waiting):
    """`content` is None until a large content was fetched. `delivery` is settled exactly once.

    `copies` are deliveries of the same attempt that came meanwhile; they end with it. `turn` is
    in the loop's time. `hop` is the next hop that was spoken to last.
    """

    __slots__ = ("_decided", "content", "copies", "delivery", "hop", "job", "walk")

    def __init__(
        self, job: DeliveryJob, delivery: Delivery, content: bytes | None, partition: Partition
    ) -> None:
        super().__init__(
            partition,
            job.site,
            connections_of(job),
            urgent=job.message_class is MessageClass.TRANSACTIONAL,
        )
        self.job = job
        self.delivery = delivery
        self.content = content
        self.copies: list[Delivery] = []
        self.walk = Walk()
        self.hop: Hop | None = None
        self._decided: dict[int, Outcome] = {}

    @property
    def sample(self) -> DeliveryJob:
        """The job without what makes it large."""
        return msgspec.structs.replace(self.job, content=Content(0), recipients=())

    @property
    def begun(self) -> bool:
        """Whether a host was spoken to, or decided about some recipients."""
        return self.walk.spoken or bool(self._decided)

    @property
    def decided(self) -> bool:
        """Whether all recipients have their outcome."""
        return len(self._decided) == len(self.job.recipients)

    def part(self, most: int) -> DeliveryJob:
        """The job for recipients of whom no host has decided yet: the first `most` of them."""
        job = self.job
        if not self._decided and len(job.recipients) <= most:
            return job
        recipients = tuple(job.recipients[index] for index in self._open()[:most])
        return msgspec.structs.replace(job, recipients=recipients)

    def decide(self, outcomes: Sequence[Outcome | None]) -> None:
        """Keep the outcomes of `part`; None for a recipient who may be tried elsewhere."""
        for index, outcome in zip(self._open(), outcomes, strict=False):
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

    def delivered(self, work: Work, outcomes: tuple[Delivered, ...]) -> None:
        """As `finish`, for an attempt in which one reply delivered to all recipients."""

    def give_back(self, work: Work, delay_ms: int, reason: str) -> None:
        """The work was not begun; it comes again after one of the wait steps, with its turn."""

    def release(self, work: Work) -> None:
        """The work was not begun and will not be."""

    def broken(self, work: Work) -> None:
        """An attempt failed by a fault of ours."""
