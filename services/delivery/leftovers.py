"""What counts of partitions that were given up (pure), for as long as a next worker may ask.

Limits look back a minute, so what was opened here counts there until then, or until a next one
that has been told serves the partition.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from services.delivery.holding import SLOT_SECONDS, Partition, Trace

SLOTS = int(60 / SLOT_SECONDS) + 1
"""A minute touches so many slots, wherever it begins."""


class Leftovers:
    """Traces by the time they were made."""

    def __init__(self) -> None:
        self._left: dict[Partition, tuple[float, Sequence[Trace]]] = {}

    def keep(self, partition: Partition, traces: Sequence[Trace], now: float) -> None:
        """This one was given up now."""
        self._left[partition] = now, traces

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Others serve them and were told."""
        for partition in partitions:
            self._left.pop(partition, None)

    def told(self, remains: Collection[Trace], now: float) -> tuple[Trace, ...]:
        """All there is to tell: `remains` are still open, and older traces count besides."""
        told = {(trace.lane, trace.number, trace.site): trace for trace in remains}
        for partition, (at, traces) in list(self._left.items()):
            slots = int((now - at) / SLOT_SECONDS)
            if slots >= SLOTS:
                del self._left[partition]
            for trace in traces:
                opened = ((0,) * slots + trace.opened)[:SLOTS]
                key = (trace.lane, trace.number, trace.site)
                if key not in told and any(opened):
                    told[key] = msgspec.structs.replace(trace, connections=0, opened=opened)
        return tuple(told.values())


def merged(traces: Iterable[Trace]) -> tuple[Trace, ...]:
    """One for each site: what several workers have there counts together."""
    found: dict[tuple[str, int, str], Trace] = {}
    for trace in traces:
        key = (trace.lane, trace.number, trace.site)
        other = found.get(key)
        found[key] = trace if other is None else _sum(trace, other)
    return tuple(found[key] for key in sorted(found))


def _sum(one: Trace, other: Trace) -> Trace:
    length = max(len(one.opened), len(other.opened))
    opened = [
        sum(trace.opened[slot] for trace in (one, other) if slot < len(trace.opened))
        for slot in range(length)
    ]
    connections = one.connections + other.connections
    return msgspec.structs.replace(one, connections=connections, opened=tuple(opened))
