"""The command `postroad`, but nothing is counted: what a service takes less is what metrics cost.

    python -m tests.bench.uncounted SERVICE

The calls stay, and do nothing. Nobody looks at queues and at the lag of the loop.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from shared.depths import DepthWatch
from shared.loop_lag import LoopLag
from shared.tally import Count, Spread

VERBS = {
    Count: ("inc", "dec"),
    Spread: ("observe",),
    Counter: ("inc",),
    Gauge: ("inc", "dec", "set"),
    Histogram: ("observe",),
    DepthWatch: ("start",),
    LoopLag: ("start",),
}
"""What is made to do nothing, before anybody has bound it."""


def nothing(*_values: object, **_named: object) -> None:
    """Takes the place of every verb."""


def main() -> None:
    """Run a service."""
    for kind, verbs in VERBS.items():
        for verb in verbs:
            setattr(kind, verb, nothing)
    from services.cli import main as run

    run()


if __name__ == "__main__":
    main()
