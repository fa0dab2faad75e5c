"""A job in the hands of this process, and what its owner does with the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from shared.broker.interface import Delivery
from shared.messages.model import DeliveryJob
from shared.messages.outcome import Outcome


@dataclass(slots=True, eq=False)
class Work:
    """`content` is None until a large content was fetched. `delivery` is settled exactly once."""

    job: DeliveryJob
    delivery: Delivery
    content: bytes | None = None


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
