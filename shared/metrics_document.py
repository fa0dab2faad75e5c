"""Writes `docs/metrics.md` from the catalogue, so that the page cannot be out of date.

`make docs` prints the page into the file; a test compares the two.
"""

from __future__ import annotations

import sys

from shared import metrics
from shared.catalogue import ALL, CATALOGUE, Configured, Declared, Values

INTRODUCTION = """\
# Metrics

This page is generated from `shared/metrics.py` (`make docs`); a test keeps it so.

Each service serves its own at `/metrics` of its admin port (`admin` in the
[configuration](configuration.md)), in the text format of Prometheus. Label values are bounded: each
label has the values that stand here and no others. Counters stand at 0 from the start for all of
them, so that an alert on a rate sees the first failure. Names of counters end in `_total`;
histograms also have `_bucket`, `_sum` and `_count`.

Beside these there are `process_*` (CPU seconds, memory, open files and their limit, start time) and
`python_*` from the client library.
"""

WAITING = """\
## What waits

An accepted mail is always in exactly one of these places, or on its way from one to the next:

| Where | What tells of it |
|---|---|
| the router has not taken it | `postroad_accepted_waiting` |
| in the hands of the router | `postroad_in_flight_jobs` of the router |
| in a lane queue | `postroad_queued_jobs` of the worker that serves the partition |
| in the hands of a worker | `postroad_in_flight_jobs`, `postroad_oldest_message_seconds` |
| on the retry ladder, or waiting for its turn | `postroad_waiting_jobs` |
| in a lane queue of a former plan | nothing: the routers look for these, and empty them |
| parked | `postroad_parked_waiting` |

**Depths** are what the broker says is ready in a queue; what a consumer holds is not in them. They
are asked for every 15 s. When the broker does not answer within 10 s they are not exposed at all
until it does: an old number is never shown as a new one. Of the lane queues each worker counts
those of the partitions that it serves, so a sum over the workers counts each queue once (for a
moment twice while a partition moves), and a partition that nobody serves is missing: see
`postroad_partition_owned`. All other queues are counted by every process that declares them, so
take the maximum.

**`postroad_oldest_message_seconds`** is looked at once a second: now, less when the mail was
accepted, of the oldest job that this worker holds unsettled: it waits for its site, is being sent,
waits for the broker to confirm its retry or notification, or stands at the head of those that come
again and were not looked at yet. It is 0 when the worker holds none. While a delivery hangs, or the
broker confirms nothing, it grows by a second a second.

It does not see what the worker does not hold: jobs behind those that a queue has handed out, of
which the first come first (`postroad_queued_jobs` tells how many); jobs on the ladder, which may be
days old, and those that were sent away since a limit left no time (`postroad_waiting_jobs`); and
mail that the router has not routed (`postroad_accepted_waiting`). A job that was retried counts
with its whole age since acceptance, while it is held for its next attempt. So with a site that
refuses everything for now the gauge goes up and down. For a promise about time from end to end use
`postroad_queue_seconds`.

**`postroad_paused_sites`** counts, once a second, the sites with a set of hosts none of which
answered when it was tried last, and which is not tried again yet (5 to 60 s). A site that is spread
over several workers counts at each of them.

**`postroad_useful_workers`** is looked at every 15 s. Added up over the workers of a lane it is the
number of them that could have something to do; [autoscaling](autoscaling.md) scales to it, and
decision [0018](decisions/0018-autoscaling.md) has the formula. Of each partition counts what it
uses of its worker, and what it would use at once if the worker had it: connections (of
`delivery.max_connections`), and time at work (70 % of a worker's is its fair use). A partition
counts as one at most, since one worker serves it. Jobs that wait for the limits of their sites ask
for nothing: those limits hold for all workers together. A worker that drains tells nothing.
"""

REASONS = """\
## Reasons

`reason` of a failure or a retry is the class of the reply that decided it, by its enhanced status
code (RFC 3463), or by its code where it has none: `address`, `mailbox`, `routing`, `protocol`,
`message`, `policy`, `other`. A failure may also be `expired`: it was tried for `delivery.max_age`.
A retry may have a reason without a reply of the next hop: `connect` (no host could be reached, or
the connection was lost), `timeout` (a host, or the whole attempt, took too long), `tls` (the
handshake failed, and so did the connection in clear text after it), `dns` (no answer to rely on),
`uncertain` (lost after the content, so perhaps delivered), `limit` (the limits of the site left no
room), `store` (the content store did not answer).

A recipient that the router fails before any host was asked has the `provider` that its job is known
to go to, or `other`.
"""

_TITLES = {
    ("ingress",): "Ingress",
    ("router",): "Router",
    ("router", "delivery"): "Router and delivery",
    ("delivery",): "Delivery",
    ALL: "All services",
}


def metrics_page() -> str:
    """The whole page, as Markdown."""
    parts = [INTRODUCTION, *(_section(services) for services in _TITLES), _buckets()]
    return "\n".join((*parts, WAITING, REASONS))


def _section(services: tuple[str, ...]) -> str:
    lines = [f"## {_TITLES[services]}\n", "| Name | Type | Unit | Labels | Meaning |"]
    lines.append("|---|---|---|---|---|")
    lines += [row(declared) for declared in CATALOGUE if declared.services == services]
    return "\n".join(lines) + "\n"


def row(declared: Declared) -> str:
    """One metric: name, type, unit, labels with their values, meaning."""
    labels = "<br>".join(
        f"`{label}`: {_values_in_words(values)}" for label, values in declared.labels.items()
    )
    cells = (f"`{declared.name}`", declared.kind, declared.unit, labels, declared.meaning)
    return f"| {' | '.join(cells)} |"


def _values_in_words(values: Values) -> str:
    if isinstance(values, Configured):
        return values.value
    return " ".join(f"`{value}`" for value in values)


def _buckets() -> str:
    lines = ["## Buckets\n", "Upper bounds of the histograms, in seconds.\n"]
    bounds = ", ".join(map(str, metrics.QUEUE_SECONDS))
    lines.append(f"- `postroad_queue_seconds`: {bounds}")
    lines.append(f"- all others: {', '.join(map(str, metrics.SECONDS))}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
