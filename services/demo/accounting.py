"""The formula that decides whether mail was lost, and the table's figures: sets in, values out.

Accepted = A; at receivers D; answered by a DSN N; parked P. lost = A - (D + N + P) must be empty,
and so must be whatever arrived that was not sent, was damaged or ended the wrong way.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

Pair = tuple[str, str]
"""A message's id and one of its forward-paths: the unit that must not be lost."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One pair at its receiver; `at` is seconds since the epoch."""

    pair: Pair
    at: float
    deferred: bool = False
    intact: bool = True


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message answered 250 at `at` (seconds since the epoch), `latency` seconds after MAIL."""

    recipients: tuple[str, ...]
    at: float
    latency: float


@dataclass(frozen=True, slots=True)
class Unexpected:
    """Something that must not happen, and to whom."""

    what: str
    pair: Pair


@dataclass(frozen=True, slots=True)
class Account:
    """What became of every recipient."""

    messages: int
    recipients: int
    delivered: int
    deferred_first: int
    bounced: int
    parked: int
    duplicates: int
    lost: frozenset[Pair]
    unexpected: tuple[Unexpected, ...]

    @property
    def good(self) -> bool:
        """Nothing lost, nothing unexpected."""
        return not self.lost and not self.unexpected


def settle(
    sent: Mapping[Pair, bool],
    accepted: Mapping[str, Accepted],
    arrivals: Sequence[Arrival],
    bounces: Sequence[Pair],
    parked: Collection[Pair] = (),
) -> Account:
    """The account. `sent` tells of each pair whether its receiver refuses it for good."""
    pairs = {(name, path) for name, mail in accepted.items() for path in mail.recipients}
    arrived = {arrival.pair for arrival in arrivals}
    bounced = set(bounces)
    return Account(
        messages=len(accepted),
        recipients=len(pairs),
        delivered=len(arrived & sent.keys()),
        deferred_first=len({arrival.pair for arrival in arrivals if arrival.deferred}),
        bounced=len(bounced & sent.keys()),
        parked=len(pairs & set(parked)),
        duplicates=_repeats(arrival.pair for arrival in arrivals) + _repeats(bounces),
        lost=frozenset(pairs - arrived - bounced - set(parked)),
        unexpected=tuple(_unexpected(sent, arrivals, bounced)),
    )


def _repeats(pairs: Iterable[Pair]) -> int:
    return sum(count - 1 for count in Counter(pairs).values())


def _unexpected(
    sent: Mapping[Pair, bool], arrivals: Sequence[Arrival], bounced: Collection[Pair]
) -> list[Unexpected]:
    found = [Unexpected("arrived but never sent", a.pair) for a in arrivals if a.pair not in sent]
    found += [Unexpected("content damaged", a.pair) for a in arrivals if not a.intact]
    found += [Unexpected("arrived though refused", a.pair) for a in arrivals if sent.get(a.pair)]
    found += [Unexpected("bounced without cause", pair) for pair in bounced if not sent.get(pair)]
    return found


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Median and 99th percentile, in seconds."""

    p50: float
    p99: float


def quantiles(seconds: Collection[float]) -> Quantiles | None:
    """By nearest rank; None if there are no values."""
    ordered = sorted(seconds)
    if not ordered:
        return None
    return Quantiles(*(ordered[math.ceil(rank * len(ordered)) - 1] for rank in (0.5, 0.99)))


@dataclass(frozen=True, slots=True)
class Speeds:
    """How fast it went; rates are messages a second, None where there is nothing to measure."""

    accept_rate: float | None
    whole_rate: float | None
    accept: Quantiles | None
    delivered_at_once: Quantiles | None
    delivered_late: Quantiles | None


def measure(accepted: Mapping[str, Accepted], arrivals: Sequence[Arrival]) -> Speeds:
    """Speeds; `delivered_late` are the recipients that were deferred first."""
    known = [arrival for arrival in arrivals if arrival.pair[0] in accepted]
    begin = min((mail.at - mail.latency for mail in accepted.values()), default=0.0)
    last_accept = max((mail.at for mail in accepted.values()), default=begin)
    last_arrival = max((arrival.at for arrival in known), default=begin)
    return Speeds(
        accept_rate=_rate(len(accepted), last_accept - begin),
        whole_rate=_rate(len({arrival.pair[0] for arrival in known}), last_arrival - begin),
        accept=quantiles([mail.latency for mail in accepted.values()]),
        delivered_at_once=quantiles(_waits(accepted, known, deferred=False)),
        delivered_late=quantiles(_waits(accepted, known, deferred=True)),
    )


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if seconds > 0 else None


def _waits(
    accepted: Mapping[str, Accepted], arrivals: Sequence[Arrival], *, deferred: bool
) -> list[float]:
    # A receiver may take a message before its sender has read the 250: that counts as no wait.
    return [
        max(0.0, arrival.at - accepted[arrival.pair[0]].at)
        for arrival in arrivals
        if arrival.deferred == deferred
    ]
