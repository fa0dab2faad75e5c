"""`postroad probe`: looks whether the services are ready and, if asked to, whether mail flows.

What was accepted is told by its reply; that it was routed and tried, by counters that have risen
since. Others' mail makes them rise as well: on a busy system they tell that the pipeline moves, and
the log tells of the mail by its id.
"""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable, Mapping

from services.probe.health import Endpoints
from services.probe.submit import Submission, submit

PAUSE = 0.5
"""Seconds between two looks."""
COUNTERS: Mapping[str, tuple[str, str]] = {
    "router": ("postroad_routed_jobs_total", "routed"),
    "delivery": ("postroad_delivery_attempts_total", "tried"),
}


class Failed(Exception):  # noqa: N818 - says what was looked for in vain
    """What the probe looks for is not so within its time."""


def run_probe(
    services: Mapping[str, str],
    submission: Submission | None,
    seconds: float,
    say: Callable[[str], None] = print,
) -> int:
    """The exit code: 0 when all is well within `seconds`, else 1, and a line says why.

    `services` is URL by name of the service. Raises `ConfigError`.
    """
    places = [Endpoints(name, url) for name, url in services.items()]
    end = time.monotonic() + seconds
    try:
        for place in places:
            _await(place.why_not_ready, end, f"{place.service} is not ready")
            say(f"{place.service} is ready")
        if submission is not None:
            _follow(places, submission, end, say)
    except (Failed, OSError, smtplib.SMTPException) as error:
        say(f"FAILED: {error}")
        return 1
    return 0


def _follow(
    places: list[Endpoints], submission: Submission, end: float, say: Callable[[str], None]
) -> None:
    counted = {p.service: p.total(COUNTERS[p.service][0]) for p in places if p.service in COUNTERS}
    say(f"accepted, queued as {submit(submission)}")
    for place in places:
        if place.service in counted:
            metric, done = COUNTERS[place.service]
            before = counted[place.service]

            def why_not(
                place: Endpoints = place, metric: str = metric, before: float = before
            ) -> str:
                now = place.total(metric)
                return "" if now > before else f"{metric} is {now:g} as before"

            _await(why_not, end, f"nothing was {done}")
            say(f"mail was {done}")


def _await(why_not: Callable[[], str], end: float, failure: str) -> None:
    """Return once `why_not` says nothing. Raises `Failed` at `end`."""
    while reason := why_not():
        if time.monotonic() >= end:
            raise Failed(f"{failure}: {reason}")
        time.sleep(PAUSE)
