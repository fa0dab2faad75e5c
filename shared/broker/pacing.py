"""How much of its time a process spends on mail that can wait, while other mail comes (pure)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """`share` of the time, a `portion` at a go; all of it after `quiet`. Durations in seconds.

    A portion is what other mail waits for at most, so it is far below a millisecond.
    """

    share: float
    portion: float = 0.0003
    quiet: float = 1.0

    def pause(self, worked: float, silence: float) -> float:
        """Until the next portion: the last one took `worked`, other mail came `silence` ago."""
        return worked * (1 / self.share - 1) if silence < self.quiet else 0.0
