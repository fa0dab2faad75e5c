"""Acknowledgements of a channel, written so that none is lost with it.

For each channel and quorum queue RabbitMQ has 32 settlements at most on their way to the queue; the
others it keeps in the channel's process until those are applied (`rabbit_fifo_client`, SOFT_LIMIT),
and forgets them when the channel or its connection is closed: messages that are done with would be
delivered again. Nothing tells when a settlement was applied, but the end of a consumer does: it is
a command to the same queue, and answered after all that came before. From then on there must never
be 32 frames on their way, so they are written a few at a time, with pauses, and most of them not at
all: the one frame at the end settles whatever is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from shared.broker.amqp.subscription import Subscription

FRAMES = 8
"""A channel may write at a time once it takes no more."""
PAUSE_SECONDS = 0.5
"""Between two such times: a queue that applies settlements within 2 s loses none."""
LEAVE_SECONDS = 0.1
"""The same when the process has no more time, since something is still unsettled."""


def acknowledge(subscription: Subscription, most: int | None = None) -> None:
    """One frame for the longest run from the oldest delivery on, one each for the others.

    At most `most` frames; what is left stays in `acknowledged`.
    """
    unsettled, acknowledged = subscription.unsettled, subscription.acknowledged
    last = 0
    while unsettled and (oldest := next(iter(unsettled))) in acknowledged:
        last = oldest
        del unsettled[oldest]
        acknowledged.discard(oldest)
    if last:
        subscription.channel.basic_ack(last, multiple=True)
    singles = None if most is None else most - bool(last)
    for tag in tuple(islice(acknowledged, singles)):
        acknowledged.discard(tag)
        del unsettled[tag]
        subscription.channel.basic_ack(tag)


class Parting:
    """The consumptions that were cancelled and have deliveries left to settle."""

    def __init__(self) -> None:
        self._next: dict[Subscription, float] = {}
        """When each that holds something back may write again (monotonic seconds)."""

    def acknowledge(self, subscription: Subscription, now: float) -> None:
        """Write what may be written now: all of it, if nothing else is unsettled."""
        if len(subscription.acknowledged) == len(subscription.unsettled):
            self._next.pop(subscription, None)
            acknowledge(subscription, 1)
        elif subscription.acknowledged and now >= self._next.get(subscription, 0.0):
            self._next[subscription] = now + PAUSE_SECONDS
            acknowledge(subscription, FRAMES)

    def due(self, now: float) -> list[Subscription]:
        """Those that may write again."""
        return [one for one, when in self._next.items() if now >= when and one.acknowledged]

    def leave(self) -> Iterator[float]:
        """Write what is held back, whatever else is unsettled; the pauses to make, in seconds."""
        while held := [one for one in self._next if one.acknowledged]:
            for subscription in held:
                acknowledge(subscription, FRAMES)
            yield LEAVE_SECONDS

    def forget(self) -> None:
        """The connection is gone, and every channel with it."""
        self._next.clear()
