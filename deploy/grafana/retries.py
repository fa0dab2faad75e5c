"""Retries and failures: what waits on the ladder, why, when it comes back, and what is given up."""

from __future__ import annotations

from deploy.grafana.model import Board, Panel, Query, Row, Shape
from deploy.grafana.promql import HERE, PROVIDER, RATE, per_second, same, some

_LADDER = same("postroad_waiting_jobs", "step")

LADDER = Row(
    "What waits for a retry, why, and when does it come back?",
    (
        Panel(
            "Now waiting, by step",
            "A job at a step comes back within the step's delay. `due` and `crowd` have waited "
            "enough, and are taken by the router next.",
            (Query(f"{_LADDER} > 0", "{{step}}"),), "short", Shape.BARS, 8,
            runbooks=("PostroadRetriesClimb",),
        ),
        Panel(
            "What waits at each step", "Jobs on the ladder. A wave that moves from step to step is "
            "one receiver that stays away.",
            (Query(_LADDER, "{{step}}"),), "short", Shape.STACK, 16,
            leads_to=("postroad-delivery",), runbooks=("PostroadRetriesClimb",),
        ),
        Panel(
            "Why: retries by reason",
            "Jobs sent to a step, a second, by what went wrong with the first recipient. `connect` "
            "and `timeout` for all providers is our way out; `policy` is what they think of us.",
            (Query(some(per_second("postroad_retries_total", "reason")), "{{reason}}"),),
            RATE, Shape.STACK, 8, leads_to=("postroad-delivery",),
            runbooks=("PostroadProviderDefers",),
        ),
        Panel(
            "Retries by step and reason", "In the last hour: which reason goes how far up.",
            (Query(f"sum by (step, reason) (increase(postroad_retries_total{{{HERE}}}[1h])) > 0",
                   "{{step}}: {{reason}}"),),
            "short", Shape.BARS, 8,
        ),
        Panel(
            "The slow way", "Jobs a second that nobody waits for: so many of one site that it does "
            "not matter when they come.",
            (Query(per_second("postroad_crowd_jobs_total"), "crowd"),), RATE, width=8,
        ),
    ),
)  # fmt: skip
GIVEN_UP = Row(
    "What was given up, and who was told?",
    (
        Panel(
            "Given up by provider and reason", "Recipients in the last hour.",
            (Query(f"sum by (provider, reason) "
                   f"(increase(postroad_failures_total{{{PROVIDER}}}[1h])) > 0",
                   "{{provider}}: {{reason}}"),),
            "short", Shape.BARS, 8, leads_to=("postroad-delivery",),
            runbooks=("PostroadMailUndelivered", "PostroadProviderRefuses"),
        ),
        Panel(
            "Given up, by reason", "Recipients a second.",
            (Query(per_second("postroad_failures_total", "reason", PROVIDER), "{{reason}}"),),
            RATE, Shape.STACK, 8, runbooks=("PostroadMailUndelivered",),
        ),
        Panel(
            "Notifications", "A second: of failures, of delays, of relays.",
            (Query(per_second("postroad_dsn_total", "action"), "{{action}}"),),
            RATE, Shape.STACK, 8,
        ),
        Panel(
            "Uncertain outcomes",
            "Recipients in the last hour whose receiver was lost before its reply, by what "
            "was done: `retry` may make a copy, `sent` may lose, `hold` asks a person.",
            (Query(f"sum by (policy) (increase(postroad_uncertain_outcomes_total{{{HERE}}}[1h]))",
                   "{{policy}}"),),
            "short", width=8, leads_to=("postroad-delivery",),
            runbooks=("PostroadUncertainOutcomes",),
        ),
        Panel(
            "Parked, waiting for a person", "Messages that lie in postroad.parked.",
            (Query(same("postroad_parked_waiting"), "parked"),), "short", width=8,
            steps=((None, "green"), (1, "red")), runbooks=("PostroadMailParked",),
        ),
        Panel(
            "Parked, by reason", "Messages parked in the last hour.",
            (Query(f"sum by (reason) (increase(postroad_parked_messages_total{{{HERE}}}[1h])) > 0",
                   "{{reason}}"),),
            "short", Shape.BARS, 8, runbooks=("PostroadMailParked",),
        ),
    ),
)  # fmt: skip
RETRIES = Board(
    "postroad-retries", "postroad / Retries and failures",
    "What waits on the ladder, why, when it comes back; what was given up, and who was told.",
    (LADDER, GIVEN_UP), ("provider",),
)  # fmt: skip
