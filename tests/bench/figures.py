"""The arithmetic of the benchmark (pure): percentiles, growth, and that nothing came twice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


class BenchError(RuntimeError):
    """A run did not end as it must; the text says how."""


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that `percent` of all do not exceed. Raises ValueError if there is none."""
    if not values:
        raise ValueError("a percentile of nothing")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def growth(now: float, before: float) -> float:
    """By how many percent `now` is more than `before`."""
    return (now / before - 1) * 100


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of a run: messages done so far, CPU seconds used so far by each part."""

    time: float
    done: int
    cpu: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What lies between two marks."""

    messages: int
    seconds: float
    cpu: Mapping[str, float]

    @classmethod
    def between(cls, first: Mark, last: Mark) -> Stretch:
        """Raises `BenchError` if nothing was done meanwhile."""
        if last.done <= first.done or last.time <= first.time:
            raise BenchError(f"no message between {first.done} and {last.done}")
        used = {name: seconds - first.cpu[name] for name, seconds in last.cpu.items()}
        return cls(last.done - first.done, last.time - first.time, used)

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    def cpu_ms(self, part: str) -> float:
        """CPU milliseconds a message of one part."""
        return self.cpu[part] * 1000 / self.messages

    @property
    def cores(self) -> float:
        """CPU seconds a second of all parts together."""
        return sum(self.cpu.values()) / self.seconds


def check_once(expected: Iterable[str], counts: Mapping[str, int]) -> None:
    """Raises `BenchError` unless each of `expected` came once; others do not matter."""
    found = [counts.get(one, 0) for one in expected]
    lost, repeated = found.count(0), sum(count > 1 for count in found)
    if lost or repeated:
        raise BenchError(
            f"of {len(found)} messages {lost} are lost, {repeated} came more than once"
        )


def delays(accepted: Mapping[str, float], received: Mapping[str, Sequence[float]]) -> list[float]:
    """Seconds from acceptance to receipt of each accepted message.

    Raises `BenchError` unless each was received once.
    """
    check_once(accepted, {name: len(times) for name, times in received.items()})
    return [received[name][0] - time for name, time in accepted.items()]
