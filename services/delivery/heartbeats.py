"""What delivery workers tell each other (pure): that they live, what they serve, what is left.

Fields are only ever added, each with a default. What cannot be read is no reason to fail: its
sender looks silent, and the broker serves each queue to one consumer whoever else claims it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import msgspec

from services.delivery.holding import Partition, Trace

SCHEMA = 1
"""The newest schema version this code reads and the one it writes."""

Number = Annotated[int, msgspec.Meta(ge=0)]
Period = Annotated[int, msgspec.Meta(ge=1, le=3_600_000)]


class Loss(msgspec.Struct, frozen=True, array_like=True):
    """A partition whose worker fell silent while it served it, `age_ms` ago."""

    lane: str
    number: Number
    age_ms: Number


class Heartbeat(msgspec.Struct, frozen=True, omit_defaults=True, tag="heartbeat", tag_field="type"):
    """The word of one worker.

    `sequence` grows with each; the next follows within `period_ms`. `lanes` are those it serves,
    with their numbers of partitions; `claims` what it serves of them now. `joining`: it takes
    nothing yet, and its claims give way to those of others. `leaving`: it takes nothing more.
    `hello`: others shall answer at once.
    """

    worker: str
    sequence: Number
    period_ms: Period
    lanes: dict[str, Number]
    claims: dict[str, tuple[Number, ...]] = {}
    remains: tuple[Trace, ...] = ()
    losses: tuple[Loss, ...] = ()
    joining: bool = False
    leaving: bool = False
    hello: bool = False
    schema: int = SCHEMA

    @property
    def partitions(self) -> list[Partition]:
        """What it claims."""
        return [Partition(lane, n) for lane, numbers in self.claims.items() for n in numbers]

    def stands_like(self, other: Heartbeat) -> bool:
        """Whether both lead to the same assignment."""
        return (
            self.claims == other.claims
            and self.lanes == other.lanes
            and self.joining == other.joining
            and self.leaving == other.leaving
        )


MOST_OCTETS = 120_000
"""Of `remains` in one heartbeat, so that a datagram can carry it."""


def with_remains(heartbeat: Heartbeat, remains: Collection[Trace]) -> Heartbeat:
    """The heartbeat with what remains, open connections first.

    If that is more than fits, the partitions of what is left out count as lost: of those others
    assume the worst.
    """
    told: list[Trace] = []
    cut: set[Partition] = set()
    octets = 0
    for trace in sorted(remains, key=lambda trace: trace.connections, reverse=True):
        octets += 30 + len(trace.lane) + len(trace.site) + 3 * len(trace.opened)
        if octets <= MOST_OCTETS:
            told.append(trace)
        else:
            cut.add(Partition(trace.lane, trace.number))
    losses = (*heartbeat.losses, *(Loss(lane, number, 0) for lane, number in sorted(cut)))
    return msgspec.structs.replace(heartbeat, remains=tuple(told), losses=losses)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Heartbeat)


def encode(heartbeat: Heartbeat) -> bytes:
    """The MessagePack form."""
    return _encoder.encode(heartbeat)


def decode(body: bytes) -> Heartbeat | None:
    """The heartbeat in `body`; None if there is none that this version can read."""
    try:
        heartbeat = _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return heartbeat if heartbeat.schema <= SCHEMA else None
