"""How fast a process goes through mail that can wait, while other mail comes (pure)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """A `portion` of messages at a go, then a `pause`; none after `quiet`. Durations in seconds.

    A portion is what other mail waits for at most: a few messages, far below a millisecond.
    """

    portion: int
    pause: float
    quiet: float = 1.0

    @property
    def a_second(self) -> float:
        """Messages, while other mail comes."""
        return self.portion / self.pause

    def wait(self, silence: float) -> float:
        """Until the next portion, if the last other mail came `silence` ago."""
        return self.pause if silence < self.quiet else 0.0
