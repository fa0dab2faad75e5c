"""The first board: is mail flowing, what is late, what is wrong now."""

from __future__ import annotations

from deploy.grafana.model import Board, Panel, Query, Row, Shape
from deploy.grafana.promql import HERE, RATE, per_second, quantile, same, total

NUMBER = Shape.NUMBER
_ENDED = per_second("postroad_queue_seconds_count")
_TRANSACTIONAL = f'{HERE},class="transactional",outcome="delivered"'
_IN_TIME = per_second("postroad_queue_seconds_bucket", where=f'{_TRANSACTIONAL},le="60.0"')
_UNDELIVERED = per_second(
    "postroad_failures_total", where=f'{HERE},reason!~"address|mailbox|message|tls"'
)
_OF_CLASS = f'{HERE},class="transactional"'
_OWNED = f"sum by (lane, partition) (postroad_partition_owned{{{HERE}}})"
_OURS = f'{HERE},reason=~"ours|blocked|load"'
_FIRST = f'{HERE},kind="first"'
_LADDER = f"sum ({same('postroad_waiting_jobs', 'step')})"
_GREEN_TO_RED = ((None, "red"), (0.9, "yellow"), (0.99, "green"))

NOW = Row(
    "Is mail flowing?",
    (
        Panel(
            "Accepted", "Transactions answered 250, a second.",
            (Query(per_second("postroad_accepted_messages_total")),), RATE, NUMBER, 6,
            leads_to=("postroad-acceptance",),
        ),
        Panel(
            "Ended", "Recipients whose fate is decided, a second: delivered, given up or parked.",
            (Query(_ENDED),), RATE, NUMBER, 6, leads_to=("postroad-delivery",),
        ),
        Panel(
            "Not given up", "Of the recipients that ended, those that were not given up for a "
            "reason of ours or the receiver's (bad addresses and contents count as good).",
            (Query(f"1 - {_UNDELIVERED} / ({_ENDED} > 0)"),), "percentunit", NUMBER, 6,
            _GREEN_TO_RED, 1, ("postroad-retries",), ("PostroadMailUndelivered",),
        ),
        Panel(
            "Transactional within a minute",
            "Of the transactional mail delivered now, the share that took at most a minute.",
            (Query(f"{_IN_TIME} / "
                   f"({per_second('postroad_queue_seconds_count', where=_TRANSACTIONAL)} > 0)"),),
            "percentunit", NUMBER, 6, _GREEN_TO_RED, 1,
            ("postroad-delivery",), ("PostroadTransactionalLate",),
        ),
        Panel(
            "Oldest transactional in hand",
            "Since its acceptance. Old while nothing waits is a retry, which is no trouble.",
            (Query(same("postroad_oldest_message_seconds", where=_OF_CLASS)),),
            "s", NUMBER, 6, ((None, "green"), (60, "yellow"), (300, "red")),
            leads_to=("postroad-queues",), runbooks=("PostroadTransactionalStuck",),
        ),
        Panel(
            "Wait for a first attempt", "Mails not yet routed, and jobs not yet tried.",
            (Query(f"{same('postroad_accepted_waiting')} + "
                   f"{total('postroad_queued_jobs', where=_FIRST)}"),),
            "short", NUMBER, 6, ((None, "green"), (1000, "yellow"), (10000, "red")),
            leads_to=("postroad-queues",), runbooks=("PostroadNothingMoves",),
        ),
        Panel(
            "Wait for a retry", "Jobs on the ladder, over all steps.",
            (Query(_LADDER),), "short", NUMBER, 6,
            ((None, "green"), (1000, "yellow"), (50000, "red")),
            leads_to=("postroad-retries",), runbooks=("PostroadRetriesClimb",),
        ),
        Panel(
            "Parked", "Messages that wait for a person. This should be 0.",
            (Query(same("postroad_parked_waiting")),), "short", NUMBER, 6,
            ((None, "green"), (1, "red")),
            leads_to=("postroad-retries",), runbooks=("PostroadMailParked",),
        ),
    ),
)  # fmt: skip
FLOW = Row(
    "From accepted to the end",
    (
        Panel(
            "From accepted to the end",
            "Mails accepted, jobs routed, recipients attempted and ended, a second. Where one line "
            "falls and the one before it does not, there it stands still. Jobs that come again are "
            "routed again.",
            (
                Query(per_second("postroad_accepted_messages_total"), "accepted (mails)"),
                Query(per_second("postroad_routed_jobs_total"), "routed (jobs)"),
                Query(per_second("postroad_delivery_attempts_total"), "attempted (recipients)"),
                Query(_ENDED, "ended (recipients)"),
            ),
            RATE, width=12, leads_to=("postroad-queues",), runbooks=("PostroadNothingMoves",),
        ),
        Panel(
            "Ends, by outcome", "What became of recipients, a second. Nothing else can.",
            (Query(per_second("postroad_queue_seconds_count", "outcome"), "{{outcome}}"),),
            RATE, Shape.STACK, 12, leads_to=("postroad-delivery",),
        ),
        Panel(
            "Transactional: accepted to delivered",
            "Half, 95 and 99 of a hundred took at most so long, guessed evenly between the bounds "
            "that are counted (5, 15, 60 s). The line is the objective.",
            tuple(
                Query(quantile(share, "postroad_queue_seconds", where=_TRANSACTIONAL), legend)
                for share, legend in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
            ),
            "s", width=12, steps=((None, "green"), (60, "red")),
            leads_to=("postroad-delivery",), runbooks=("PostroadTransactionalLate",),
        ),
        Panel(
            "What waits, and where", "Mails and jobs by the place where they wait.",
            (
                Query(same("postroad_accepted_waiting"), "for the router"),
                Query(total("postroad_queued_jobs", "kind"), "in lanes: {{kind}}"),
                Query(_LADDER, "on the ladder"),
                Query(same("postroad_parked_waiting"), "parked"),
            ),
            "short", Shape.STACK, 12, leads_to=("postroad-queues", "postroad-retries"),
        ),
    ),
)  # fmt: skip
WRONG = Row(
    "What is wrong now",
    (
        Panel(
            "Firing alerts", "Each name leads to its runbook. Empty is good.",
            (Query(f'ALERTS{{alertname=~"Postroad.*",alertstate="firing",{HERE}}}'),),
            "short", Shape.TABLE, 12,
        ),
        Panel(
            "Given up, by reason", "Recipients that got a final no, or expired, a second.",
            (Query(per_second("postroad_failures_total", "reason"), "{{reason}}"),),
            RATE, Shape.STACK, 12,
            leads_to=("postroad-retries",), runbooks=("PostroadMailUndelivered",),
        ),
        Panel(
            "Refused for our trouble", "Of all transactions, those answered 421, 451 or 452.",
            (Query(f"{per_second('postroad_refused_messages_total', where=_OURS)} / "
                   f"({per_second('postroad_accepted_messages_total')} + "
                   f"{per_second('postroad_refused_messages_total', where=_OURS)} > 0)",
                   "refused"),),
            "percentunit", width=8, steps=((None, "green"), (0.02, "red")),
            leads_to=("postroad-acceptance",), runbooks=("PostroadAcceptanceFails",),
        ),
        Panel(
            "Processes without a broker", "Not connected, or told to wait.",
            (
                Query(f"sum (1 - postroad_broker_usable{{{HERE}}})", "not usable"),
                Query(total("postroad_broker_blocked"), "blocked"),
            ),
            "short", width=8, steps=((None, "green"), (1, "red")), leads_to=("postroad-queues",),
            runbooks=("PostroadBrokerUnusable", "PostroadBrokerBlocked"),
        ),
        Panel(
            "Partitions without a worker", "By lane. More than a moment of it is trouble.",
            (Query(f"count by (lane) ({_OWNED}) - sum by (lane) (clamp_max({_OWNED}, 1))",
                   "{{lane}}"),),
            "short", width=8, steps=((None, "green"), (1, "red")), leads_to=("postroad-queues",),
            runbooks=("PostroadPartitionUnowned",),
        ),
    ),
)  # fmt: skip
OVERVIEW = Board(
    "postroad-overview", "postroad / Overview",
    "Is mail flowing, what is late, what is wrong now. Every panel leads on.", (NOW, FLOW, WRONG),
)  # fmt: skip
