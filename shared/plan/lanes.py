"""Which queue a job belongs in, and which share of its site's limits goes with it (pure).

A site lies in one partition of its lane, or in `spread` of them, and one worker at a time serves
a partition. A site that several lanes may take, by tenant or class, has its limits divided among
them. So what all workers do together never exceeds the limits, and none asks another.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.broker.topology import lane_queue
from shared.messages.model import DeliveryJob, MessageClass
from shared.plan.limits import Limits, LimitTable
from shared.plan.names import normal_domain
from shared.settings.shaping import DEFAULT_LANE, LaneSettings

CACHED_PLACES = 50_000


@dataclass(frozen=True, slots=True)
class Place:
    """The queue of a job. `part` of `parts` is the share of the site's limits that counts there.

    `beside` is the other queue of the same partition and class: releases that had only one put
    jobs there that come again.
    """

    queue: str
    beside: str
    lane: str
    partition: int
    part: int = 0
    parts: int = 1


@dataclass(frozen=True, slots=True)
class _Lane:
    settings: LaneSettings
    domains: frozenset[str]

    @property
    def conditional(self) -> bool:
        """Whether it takes only some of a site's mail."""
        return bool(self.settings.match.tenants or self.settings.match.classes)

    def may_hold(self, provider: str, site: str) -> bool:
        match = self.settings.match
        return (
            (not match.providers or provider in match.providers)
            and (not match.sites or site in match.sites)
            and (not self.domains or site in self.domains)
        )

    def takes(self, tenant: str, message_class: MessageClass) -> bool:
        match = self.settings.match
        return (not match.tenants or tenant in match.tenants) and (
            not match.classes or message_class in match.classes
        )


@dataclass(frozen=True, slots=True)
class _Slot:
    """A lane's share of one site: one or more places of each class, first and again."""

    lane: _Lane
    first: Mapping[MessageClass, Sequence[Place]]
    again: Mapping[MessageClass, Sequence[Place]]


class LanePlan:
    """The configured lanes under the configured limits. The last lane has to take everything.

    Raises ValueError if it does not.
    """

    def __init__(self, lanes: Sequence[LaneSettings], limits: LimitTable) -> None:
        if not lanes or lanes[-1].name != DEFAULT_LANE:
            raise ValueError(f"the last lane has to be {DEFAULT_LANE}")
        self._lanes = [
            _Lane(lane, frozenset(map(normal_domain, lane.match.domains))) for lane in lanes
        ]
        self._limits = limits
        self.domains = limits.domains.union(*(lane.domains for lane in self._lanes))
        """Domains that are sites of their own, since a lane or a limit names them."""
        self._slots: dict[tuple[str, str], tuple[_Slot, ...]] = {}
        self._places: dict[Place, Place] = {}

    def limits(self, provider: str, site: str) -> Limits:
        """The limits of a site, undivided."""
        return self._limits.find(provider, site, site)

    def limits_of(self, job: DeliveryJob) -> Limits:
        """The limits of the job's site, undivided."""
        return self.limits(job.provider, job.site)

    def place(self, job: DeliveryJob) -> Place:
        """Where the job belongs; it has a site."""
        key = (job.provider, job.site)
        slots = self._slots.get(key)
        if slots is None:
            if len(self._slots) >= CACHED_PLACES:
                self._slots.clear()
            slots = self._slots[key] = self._divide(*key)
        slot = slots[-1]
        for candidate in slots[:-1]:
            if candidate.lane.takes(job.tenant, job.message_class):
                slot = candidate
                break
        places = (slot.again if comes_again(job) else slot.first)[job.message_class]
        if len(places) == 1:
            return places[0]
        return places[zlib.crc32(job.id.encode()) % len(places)]

    def _divide(self, provider: str, site: str) -> tuple[_Slot, ...]:
        lanes = self._reachable(provider, site)
        most = self.limits(provider, site).divisible_by
        # The last one takes everything, so the others go first where there is nothing to divide.
        lanes = lanes[-most:]
        widths = [lane.settings.spread for lane in lanes]
        while sum(widths) > most:
            widest = widths.index(max(widths))
            widths[widest] -= 1
        number = int.from_bytes(hashlib.blake2b(site.encode(), digest_size=8).digest(), "big")
        slots, offset = [], 0
        for lane, width in zip(lanes, widths, strict=True):
            parts = range(offset, offset + width)
            first, again = (
                self._lay_out(lane.settings, number, parts, sum(widths), again=again)
                for again in (False, True)
            )
            slots.append(_Slot(lane, first, again))
            offset += width
        return tuple(slots)

    def _lay_out(
        self, lane: LaneSettings, number: int, parts: Sequence[int], of: int, *, again: bool
    ) -> Mapping[MessageClass, Sequence[Place]]:
        return {
            kind: [
                self._shared(_place(lane, number + nth, kind, part, of, again=again))
                for nth, part in enumerate(parts)
            ]
            for kind in MessageClass
        }

    def _shared(self, place: Place) -> Place:
        # Thousands of sites have the same few places.
        return self._places.setdefault(place, place)

    def _reachable(self, provider: str, site: str) -> list[_Lane]:
        found = []
        for lane in self._lanes:
            if lane.may_hold(provider, site):
                found.append(lane)
                if not lane.conditional:
                    break
        return found


def comes_again(job: DeliveryJob) -> bool:
    """Whether it was in a lane before: it was tried, or has a turn."""
    return bool(job.attempt or job.turn)


def _place(
    lane: LaneSettings, number: int, kind: MessageClass, part: int, of: int, *, again: bool
) -> Place:
    partition = number % lane.partitions
    queue, beside = (
        lane_queue(lane.name, partition, kind.value, again=which) for which in (again, not again)
    )
    return Place(queue, beside, lane.name, partition, part, of)


def lane_names(lanes: Sequence[LaneSettings]) -> tuple[str, ...]:
    """All lanes, `default` last."""
    names = [lane.name for lane in lanes if lane.name != DEFAULT_LANE]
    return (*names, DEFAULT_LANE)
