"""Runtime: the processes, what they use, and whether they keep up."""

from __future__ import annotations

from deploy.grafana.model import Board, Panel, Query, Row, Shape
from deploy.grafana.promql import HERE, RATE, per_second, quantile, same

_JOB = f'{HERE},job=~".*postroad.*"'

PROCESSES = Row(
    "Which processes run, and do they keep up?",
    (
        Panel(
            "Processes that answer", "By job, and those that do not.",
            (
                Query(f"sum by (job) (up{{{_JOB}}})", "{{job}}"),
                Query(f"sum (1 - up{{{_JOB}}})", "no answer"),
            ),
            "short", Shape.STACK, runbooks=("PostroadScrapeLost", "PostroadServiceGone"),
        ),
        Panel(
            "Processes by service and version", "Two versions of one service is a rollout.",
            (Query(f"count by (service, version) (postroad_build_info{{{HERE}}})",
                   "{{service}} {{version}}"),),
            "short", Shape.STACK, runbooks=("PostroadServiceGone",),
        ),
        Panel(
            "Up since", "Time since each process started. All at once is a rollout or a crash.",
            (Query(f"time() - process_start_time_seconds{{{_JOB}}}", "{{job}} {{instance}}"),), "s",
            runbooks=("PostroadScrapeLost",),
        ),
        Panel(
            "Loop lag (99th percentile)", "How late the event loop is. Everything else is as late.",
            (Query(quantile(0.99, "postroad_loop_lag_seconds", "job, instance"),
                   "{{job}} {{instance}}"),),
            "s", steps=((None, "green"), (0.5, "red")), runbooks=("PostroadLoopLag",),
        ),
        Panel(
            "CPU", "Of one CPU. A process cannot use much more than 1 of it for mail.",
            (Query(f"rate(process_cpu_seconds_total{{{_JOB}}}[$__rate_interval])",
                   "{{job}} {{instance}}"),),
            "percentunit", steps=((None, "green"), (0.9, "red")), runbooks=("PostroadLoopLag",),
        ),
        Panel(
            "Memory", "Resident, by process.",
            (Query(f"process_resident_memory_bytes{{{_JOB}}}", "{{job}} {{instance}}"),), "bytes",
        ),
    ),
)  # fmt: skip
REST = Row(
    "What else can run out or go wrong?",
    (
        Panel(
            "Open files, of those allowed", "Each connection is one.",
            (Query(f"process_open_fds{{{_JOB}}} / process_max_fds{{{_JOB}}}",
                   "{{job}} {{instance}}"),),
            "percentunit", steps=((None, "green"), (0.8, "red")), most=1,
        ),
        Panel(
            "Files read again", "Of any kind, in the last hour. A `failed` one changed nothing.",
            tuple(
                Query(f"sum by (result) (increase(postroad_{what}_reloads_total{{{HERE}}}[1h]))",
                      f"{what} {{{{result}}}}")
                for what in ("config", "credentials", "certificate", "jwks")
            ),
            "short", runbooks=("PostroadReloadFailed",),
        ),
        Panel(
            "Lines and announcements lost",
            "Log lines that could not be written, and heartbeats that this version cannot read.",
            (
                Query(per_second("postroad_dropped_log_lines_total"), "log lines"),
                Query(per_second("postroad_ignored_heartbeats_total"), "heartbeats"),
            ),
            RATE, runbooks=("PostroadPartitionUnowned",),
        ),
        Panel(
            "Spans of traces",
            "Sent to the collector, or `dropped` since it did not take them. No mail waits for it.",
            (Query(per_second("postroad_spans_total", "result"), "{{result}}"),), RATE,
        ),
    ),
)  # fmt: skip
EVENTS = Row(
    "What is told of the mail? (docs/events.md)",
    (
        Panel(
            "Events, by what happened", "0 while nobody follows, with `events.publish: demand`.",
            (Query(per_second("postroad_events_total", "event"), "{{event}}"),),
            RATE, Shape.STACK,
        ),
        Panel(
            "Events dropped", "Ordinary ones, by why. Mail does not wait for them.",
            (Query(per_second("postroad_dropped_events_total", "reason"), "{{reason}}"),),
            RATE, Shape.STACK, runbooks=("PostroadEventsUnread",),
        ),
        Panel(
            "Guaranteed events unread", "In `postroad.events.guaranteed`. Somebody has to read it.",
            (Query(same("postroad_guaranteed_events_waiting"), "events"),),
            "short", steps=((None, "green"), (10_000, "red")), runbooks=("PostroadEventsUnread",),
        ),
    ),
)  # fmt: skip
RUNTIME = Board(
    "postroad-runtime", "postroad / Runtime", "The processes and whether they keep up.",
    (PROCESSES, REST, EVENTS),
)  # fmt: skip
