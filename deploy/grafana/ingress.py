"""Acceptance: what clients bring, what they are told, and what comes of logins."""

from __future__ import annotations

from deploy.grafana.model import Board, Panel, Query, Row, Shape
from deploy.grafana.promql import HERE, RATE, per_second, quantile, same, total

STACK = Shape.STACK
_HERE = f'{HERE},job=~".*ingress.*"'
_DAY = 86_400

ACCEPTED = Row(
    "Is mail accepted?",
    (
        Panel(
            "Accepted and refused", "Transactions answered 250, and all refusals, a second.",
            (
                Query(per_second("postroad_accepted_messages_total"), "accepted"),
                Query(per_second("postroad_refused_messages_total"), "refused"),
            ),
            RATE, leads_to=("postroad-overview",), runbooks=("PostroadAcceptanceFails",),
        ),
        Panel(
            "Refused, by reason",
            "`ours`, `blocked` and `load` are our trouble: the client keeps its mail and tries "
            "again. All others are its own.",
            (Query(per_second("postroad_refused_messages_total", "reason"), "{{reason}}"),),
            RATE, STACK, leads_to=("postroad-queues",), runbooks=("PostroadAcceptanceFails",),
        ),
        Panel(
            "Contents accepted", "Octets a second, with the Received field.",
            (Query(per_second("postroad_ingress_bytes_total"), "contents"),), "Bps",
        ),
        Panel(
            "Sessions", "SMTP sessions that are open, by process.",
            (Query(total("postroad_ingress_sessions", "instance"), "{{instance}}"),), "short",
            STACK,
        ),
        Panel(
            "Publish to confirm, ingress", "A client waits this long for its 250, at least.",
            tuple(
                Query(quantile(share, "postroad_publish_seconds", where=_HERE), legend)
                for share, legend in ((0.5, "half"), (0.99, "99 %"))
            ),
            "s", steps=((None, "green"), (1, "red")), leads_to=("postroad-queues",),
        ),
        Panel(
            "Accepted, not yet routed", "Mails that the router has not taken yet.",
            (Query(same("postroad_accepted_waiting"), "waiting"),), "short",
            leads_to=("postroad-queues",), runbooks=("PostroadNothingMoves",),
        ),
    ),
)  # fmt: skip
CLIENTS = Row(
    "Who comes, and with what?",
    (
        Panel(
            "Logins by result", "AUTH commands a second. Guessing shows as `wrong`.",
            (Query(per_second("postroad_ingress_auth_total", "result"), "{{result}}"),),
            RATE, STACK, runbooks=("PostroadLoginGuessing",),
        ),
        Panel(
            "Overloaded", "Processes that put new sessions and mails off, since they are late.",
            (Query(total("postroad_ingress_overloaded"), "processes"),), "short",
            steps=((None, "green"), (1, "red")),
            leads_to=("postroad-runtime",), runbooks=("PostroadAcceptanceFails",),
        ),
        Panel(
            "Certificate valid for", "Of the certificate that clients see; the process that shows "
            "the oldest one counts.",
            (Query(f"min (postroad_certificate_seconds_left{{{HERE}}})"),), "s", Shape.NUMBER, 8,
            ((None, "red"), (2 * _DAY, "yellow"), (14 * _DAY, "green")),
            leads_to=("postroad-runtime",), runbooks=("PostroadCertificateExpires",),
        ),
    ),
)  # fmt: skip
ACCEPTANCE = Board(
    "postroad-acceptance", "postroad / Acceptance",
    "What clients bring and what they are told.", (ACCEPTED, CLIENTS),
)  # fmt: skip
