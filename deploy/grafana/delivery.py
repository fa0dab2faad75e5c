"""Delivery by provider: what receivers answer, how long it takes, and what holds it back."""

from __future__ import annotations

from deploy.grafana.model import Board, Panel, Query, Row, Shape
from deploy.grafana.promql import HERE, PROVIDER, RATE, per_second, quantile, some, total

_ATTEMPTS = "postroad_delivery_attempts_total"
_SECONDS = "postroad_queue_seconds"
_OF_CLASS = f'{HERE},class=~"$class",outcome="delivered"'
_DELIVERED = per_second(_ATTEMPTS, "provider", f'{PROVIDER},outcome="delivered"')

ANSWERS = Row(
    "What do receivers answer?",
    (
        Panel(
            "Attempts by outcome",
            "Recipients attempted at the chosen providers, a second. `unknown`: the receiver was "
            "lost before its reply.",
            (Query(per_second(_ATTEMPTS, "outcome", PROVIDER), "{{outcome}}"),),
            RATE, Shape.STACK, 12, leads_to=("postroad-retries",),
            runbooks=("PostroadProviderRefuses", "PostroadProviderDefers"),
        ),
        Panel(
            "Delivered, of those attempted, by provider",
            "One line that falls is that provider; all of them is us.",
            (Query(f"{_DELIVERED} / ({per_second(_ATTEMPTS, 'provider', PROVIDER)} > 0)",
                   "{{provider}}"),),
            "percentunit", width=12, steps=((None, "red"), (0.5, "green")), most=1,
            leads_to=("postroad-retries",), runbooks=("PostroadProviderDefers",),
        ),
        Panel(
            "Attempts by provider", "Recipients attempted, a second.",
            (Query(some(per_second(_ATTEMPTS, "provider", PROVIDER)), "{{provider}}"),),
            RATE, Shape.STACK, 12,
        ),
        Panel(
            "Delivered contents by provider", "Octets a second.",
            (Query(some(per_second("postroad_delivery_bytes_total", "provider", PROVIDER)),
                   "{{provider}}"),),
            "Bps", Shape.STACK, 12,
        ),
        Panel(
            "Attempts at chosen domains", "Of the domains in `metrics.domains`; empty without any.",
            (Query(some(per_second("postroad_domain_attempts_total", "domain, outcome")),
                   "{{domain}} {{outcome}}"),),
            RATE, width=12,
        ),
        Panel(
            "Given up, by provider", "Recipients that got a final no, or expired, a second.",
            (Query(some(per_second("postroad_failures_total", "provider", PROVIDER)),
                   "{{provider}}"),),
            RATE, Shape.STACK, 12, leads_to=("postroad-retries",),
            runbooks=("PostroadProviderRefuses",),
        ),
    ),
)  # fmt: skip
TIME = Row(
    "How long does it take, and what holds it back?",
    (
        Panel(
            "Accepted to delivered, by class", "99 of a hundred recipients took at most so long.",
            (
                Query(quantile(0.5, _SECONDS, "class", _OF_CLASS), "{{class}} half"),
                Query(quantile(0.99, _SECONDS, "class", _OF_CLASS), "{{class}} 99 %"),
            ),
            "s", leads_to=("postroad-queues",), runbooks=("PostroadTransactionalLate",),
        ),
        Panel(
            "Paused sites by provider",
            "Sites whose hosts did not answer lately and are left alone for the moment.",
            (Query(some(total("postroad_paused_sites", "provider", PROVIDER)), "{{provider}}"),),
            "short", Shape.STACK, leads_to=("postroad-retries",),
            runbooks=("PostroadProviderDefers",),
        ),
        Panel(
            "Time spent waiting for a limit, by provider",
            "Seconds of waiting a second: so many jobs are held back by our own limits.",
            (Query(some(per_second("postroad_throttled_seconds_total", "provider", PROVIDER)),
                   "{{provider}}"),),
            "short", leads_to=("postroad-retries",), runbooks=("PostroadTransactionalLate",),
        ),
        Panel(
            "Connections to next hops", "Open, by worker. Flat at delivery.max_connections: full.",
            (Query(total("postroad_pool_connections", "instance"), "{{instance}}"),),
            "short", Shape.STACK,
        ),
        Panel(
            "TLS handshakes", "With next hops, a second. `resumed` ones are cheap.",
            (Query(per_second("postroad_tls_handshakes_total", "result"), "{{result}}"),),
            RATE, Shape.STACK, runbooks=("PostroadProviderRefuses",),
        ),
        Panel(
            "Given back without an attempt",
            "Jobs a second that come again later: `limit` has no turn yet, `late` was held long, "
            "`moved` belongs to another queue now.",
            (Query(per_second("postroad_given_back_jobs_total", "reason"), "{{reason}}"),),
            RATE, Shape.STACK, leads_to=("postroad-retries",),
        ),
    ),
)  # fmt: skip
DELIVERY = Board(
    "postroad-delivery", "postroad / Delivery by provider",
    "What receivers answer, by provider, and what holds mail back.", (ANSWERS, TIME),
    ("class", "provider"),
)  # fmt: skip
