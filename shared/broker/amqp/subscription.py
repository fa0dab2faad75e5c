"""One consumption of one queue, and what the loop asks the thread to do with it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any


class Verb(Enum):
    """What can be done to a delivery on its own channel."""

    ACK = auto()
    FAILED = auto()
    REQUEUE = auto()


@dataclass(slots=True)
class Settle:
    """One settlement; stale ones are dropped."""

    subscription: Subscription
    generation: int
    tag: int
    verb: Verb


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Begin to consume."""

    subscription: Subscription


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take no more; `done` ends when the broker sends no more."""

    subscription: Subscription
    done: asyncio.Future[None]


Command = Settle | Subscribe | Cancel


@dataclass(slots=True, eq=False)
class Subscription:
    """One consumption of one queue. After the first three, the thread's; the loop reads on."""

    queue: str
    prefetch: int
    deliver: Callable[[list[Any], int], None]
    generation: int = 0
    """Of the deliveries that may be settled; 0 while there is no channel."""
    channel: Any = None
    tag: str = ""
    stopped: bool = False
    unsettled: OrderedDict[int, None] = field(default_factory=OrderedDict)
    """Tags in the broker's order."""
    acknowledged: set[int] = field(default_factory=set)
    """Of this round, not written yet."""

    def begin(self, channel: Any, generation: int) -> None:
        """Everything of the former channel is void."""
        self.channel = channel
        self.generation = generation
        self.unsettled = OrderedDict()
        self.acknowledged = set()
