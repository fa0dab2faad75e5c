"""Queues and broker: what waits in which lane, who serves it, and how the broker is."""

from __future__ import annotations

from deploy.grafana.model import Board, Panel, Query, Row, Shape
from deploy.grafana.promql import HERE, LANE, RATE, per_second, quantile, same, total

_OF_LANE = f'{HERE},lane=~"$lane"'
_OWNED = f"sum by (lane, partition) (postroad_partition_owned{{{_OF_LANE}}})"
_CONSUMERS = f"count (rabbitmq_detailed_queue_consumers{{{HERE}}})"
_OURS = f'{HERE},queue=~"postroad.*"'

LANES = Row(
    "What waits in which lane?",
    (
        Panel(
            "Jobs that wait, by lane and class", "In the queues of the lanes, over all workers.",
            (Query(total("postroad_queued_jobs", "lane, class", LANE), "{{lane}} {{class}}"),),
            "short", Shape.STACK, leads_to=("postroad-delivery",),
            runbooks=("PostroadTransactionalStuck", "PostroadNothingMoves"),
        ),
        Panel(
            "Jobs that wait, by kind", "`first` were never tried; `again` were, or have a turn.",
            (Query(total("postroad_queued_jobs", "kind", LANE), "{{kind}}"),), "short", Shape.STACK,
            leads_to=("postroad-retries",),
        ),
        Panel(
            "Age of the oldest mail in hand", "Since acceptance, of what workers hold now.",
            (Query(same("postroad_oldest_message_seconds", "lane, class", LANE),
                   "{{lane}} {{class}}"),),
            "s", steps=((None, "green"), (300, "red")), runbooks=("PostroadTransactionalStuck",),
        ),
        Panel(
            "Before the lanes", "Mails not yet routed, and messages in the hands of processes.",
            (
                Query(same("postroad_accepted_waiting"), "accepted, not routed"),
                Query(total("postroad_in_flight_jobs", "job"), "in hand: {{job}}"),
            ),
            "short", runbooks=("PostroadNothingMoves",),
        ),
        Panel(
            "Jobs routed", "Published to the lanes, a second.",
            (Query(per_second("postroad_routed_jobs_total"), "routed"),), RATE,
        ),
        Panel(
            "Partitions served, and known",
            "Each partition is served by one worker. A gap between the lines is mail that waits.",
            (
                Query(f"count by (lane) ({_OWNED})", "{{lane}}: known"),
                Query(f"sum by (lane) (clamp_max({_OWNED}, 1))", "{{lane}}: served"),
            ),
            "short", runbooks=("PostroadPartitionUnowned", "PostroadPartitionOwnedTwice"),
        ),
        Panel(
            "Workers by lane",
            "As many as the worker that knows the most knows of, and those that would have "
            "something to do: what waits for limits of sites keeps nobody busy.",
            (
                Query(same("postroad_members", "lane", _OF_LANE), "{{lane}}: there"),
                Query(total("postroad_useful_workers", "lane", _OF_LANE), "{{lane}}: useful"),
            ),
            "short", runbooks=("PostroadPartitionUnowned", "PostroadWorkersNeeded"),
        ),
        Panel(
            "Partitions by worker", "How evenly the partitions are shared.",
            (Query(total("postroad_owned_partitions", "instance", _OF_LANE), "{{instance}}"),),
            "short", Shape.STACK,
        ),
        Panel(
            "Changes of ownership", "Partitions in the last 5 minutes: taken, or given up and why.",
            (Query(f"sum by (change) (increase(postroad_ownership_changes_total{{{HERE}}}[5m]))",
                   "{{change}}"),),
            "short", runbooks=("PostroadPartitionUnowned",),
        ),
    ),
)  # fmt: skip
BROKER = Row(
    "How is the broker, as the services see it?",
    (
        Panel(
            "Publish to confirm", "99 of a hundred publishes were confirmed within, by service.",
            (Query(quantile(0.99, "postroad_publish_seconds", "job"), "{{job}}"),),
            "s", steps=((None, "green"), (1, "red")), runbooks=("PostroadBrokerBlocked",),
        ),
        Panel(
            "Publish failures", "A second: the broker was away or late, said no, or had no queue.",
            (Query(per_second("postroad_publish_failures_total", "error"), "{{error}}"),),
            RATE, Shape.STACK, runbooks=("PostroadAcceptanceFails", "PostroadBrokerUnusable"),
        ),
        Panel(
            "Broker usable", "Processes with a broker, those told to wait, connections lost.",
            (
                Query(total("postroad_broker_usable"), "usable"),
                Query(total("postroad_broker_blocked"), "blocked"),
                Query(f"sum (increase(postroad_broker_reconnects_total{{{HERE}}}[5m]))",
                      "lost in 5 minutes"),
            ),
            "short", runbooks=("PostroadBrokerUnusable", "PostroadBrokerBlocked"),
        ),
    ),
)  # fmt: skip
_STEPS = 'dead_letter_strategy="at_least_once"'
RABBITMQ = Row(
    "How is RabbitMQ? (its own exporter)",
    (
        Panel(
            "RabbitMQ: ready, ten longest queues", "Messages that nobody holds.",
            (Query(f"topk(10, sum by (queue) (rabbitmq_detailed_queue_messages_ready{{{_OURS}}}))",
                   "{{queue}}"),),
            "short",
        ),
        Panel(
            "RabbitMQ: in the hands of consumers", "Delivered and not yet settled.",
            (Query(f"topk(10, sum by (queue) (rabbitmq_detailed_queue_messages_unacked{{{_OURS}}}"
                   "))", "{{queue}}"),),
            "short",
        ),
        Panel(
            "RabbitMQ: lane queues without a consumer", "That hold messages.",
            (Query(f"count ((sum by (queue) (rabbitmq_detailed_queue_messages_ready{{{HERE},"
                   f'queue=~"postroad[.]lane.*"}}) > 0) and (sum by (queue) '
                   f"(rabbitmq_detailed_queue_consumers{{{HERE}}}) == 0)) or 0 * {_CONSUMERS}",
                   "queues"),),
            "short", steps=((None, "green"), (1, "red")), runbooks=("PostroadPartitionUnowned",),
        ),
        Panel(
            "RabbitMQ: memory", "Of each node, and the mark at which it blocks publishers.",
            (
                Query(f"rabbitmq_process_resident_memory_bytes{{{HERE}}}", "{{instance}}"),
                Query(f"rabbitmq_resident_memory_limit_bytes{{{HERE}}}", "{{instance}} limit"),
            ),
            "bytes", runbooks=("PostroadBrokerBlocked",),
        ),
        Panel(
            "RabbitMQ: free disk", "Of each node, and the mark at which it blocks publishers.",
            (
                Query(f"rabbitmq_disk_space_available_bytes{{{HERE}}}", "{{instance}}"),
                Query(f"rabbitmq_disk_space_available_limit_bytes{{{HERE}}}", "{{instance}} limit"),
            ),
            "bytes", runbooks=("PostroadBrokerBlocked",),
        ),
        Panel(
            "RabbitMQ: confirms and redeliveries", "Messages a second.",
            (
                Query(per_second("rabbitmq_global_messages_confirmed_total"), "confirmed"),
                Query(per_second("rabbitmq_global_messages_redelivered_total"), "redelivered"),
            ),
            RATE,
        ),
        Panel(
            "RabbitMQ: retries whose time has come",
            "Messages a second. Where they do not go on, RabbitMQ keeps them, unseen, until its "
            "node is restarted.",
            (
                Query(per_second("rabbitmq_global_messages_dead_lettered_expired_total",
                                 where=_STEPS), "have waited"),
                Query(per_second("rabbitmq_global_messages_dead_lettered_confirmed_total",
                                 where=_STEPS), "went on"),
            ),
            RATE, runbooks=("PostroadRetriesStuck",),
        ),
    ),
)  # fmt: skip
QUEUES = Board(
    "postroad-queues", "postroad / Queues and broker",
    "What waits in which lane, who serves it, and how the broker is.", (LANES, BROKER, RABBITMQ),
    ("lane", "class"),
)  # fmt: skip
