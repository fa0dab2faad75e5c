"""Every metric of postroad, registered once. Labels are bounded: never an address or an id.

A recipient's domain is a label only if `metrics.domains` names it. Children are bound by who
counts, once, so that the hot path only calls `inc` or `observe`. `docs/metrics.md` is written from
this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial

from prometheus_client import Counter, Gauge, disable_created_metrics

from shared.broker.interface import ParkReason
from shared.catalogue import ALL, DELIVERY, INGRESS, ROUTER, Configured, declare
from shared.events.model import KINDS as EVENT_KINDS
from shared.messages.model import MessageClass
from shared.tally import TalliedCounter, TalliedGauge, TalliedHistogram

disable_created_metrics()

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600)
QUEUE_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 15, 60, 300, 900, 3600, 14400, 86400, 259200)

OUTCOMES = ("delivered", "deferred", "failed", "unknown")
FINAL_OUTCOMES = ("delivered", "failed", "expired", "parked")
FAILURE_REASONS = (
    "address", "mailbox", "message", "policy", "routing", "protocol", "expired", "other", "tls"
)  # fmt: skip
RETRY_REASONS = (
    "address", "mailbox", "message", "policy", "routing", "protocol", "other",
    "connect", "dns", "tls", "timeout", "uncertain", "limit", "store"
)  # fmt: skip
"""Why a job is tried again. The first seven are classes of replies, as FAILURE_REASONS."""
AUTH_MECHANISMS = ("PLAIN", "LOGIN", "EXTERNAL", "OAUTHBEARER", "other")
AUTH_RESULTS = (
    "success", "wrong", "malformed", "unknown_mechanism", "throttled", "busy", "unencrypted",
    "sessions", "cancelled", "trouble",
)  # fmt: skip
TLS_RESULTS = ("full", "resumed", "failed")
UNCERTAIN_POLICIES = ("retry", "sent", "hold")
DSN_ACTIONS = ("failed", "delayed", "relayed")
OWNERSHIP_CHANGES = ("taken", "moved", "lost", "leaving")
GIVEN_BACK = ("limit", "late", "moved")
"""Why a job went back to the broker before it began: no turn yet, held long, for another queue."""
REFUSALS = (
    "syntax", "auth", "relay", "sender", "quota", "size", "content", "recipients", "ours",
    "blocked", "load", "proxy", "errors",
    "tls", "idle", "slow", "shed",
)  # fmt: skip
CLASSES = tuple(kind.value for kind in MessageClass)
KINDS = ("first", "again")
READ = ("ok", "failed")
SPAN_RESULTS = ("exported", "dropped")
EVENTS_MADE = tuple(EVENT_KINDS)
EVENTS_DROPPED = ("full", "long", "lost", "follower")
PUBLISH_ERRORS = ("unavailable", "refused", "unroutable")
PARK_REASONS = tuple(reason.value for reason in ParkReason)
"""Values of labels."""

ROUTED = (ROUTER, DELIVERY)
_seconds = partial(TalliedHistogram, bounds=SECONDS)
_queue_seconds = partial(TalliedHistogram, bounds=QUEUE_SECONDS)

# fmt: off
# Acceptance.

accepted_messages = declare(TalliedCounter, "postroad_accepted_messages",
    "Transactions answered 250.", "transactions", INGRESS).labels()
ingress_bytes = declare(TalliedCounter, "postroad_ingress_bytes",
    "Contents of the transactions answered 250, with the Received field that they got.",
    "octets", INGRESS).labels()
refused_messages = declare(Counter, "postroad_refused_messages",
    "Transactions or commands refused, by reason.", "refusals", INGRESS, reason=REFUSALS)
ingress_auth = declare(Counter, "postroad_ingress_auth",
    "AUTH commands: `success`, `wrong`, `malformed`, `cancelled`, `throttled` (too many failures), "
    "`busy` (too many checks), `sessions` (the user has too many), `unencrypted`, "
    "`unknown_mechanism`, `trouble` (ours).",
    "commands", INGRESS, mechanism=AUTH_MECHANISMS, result=AUTH_RESULTS)
sessions = declare(Gauge, "postroad_ingress_sessions",
    "SMTP sessions that are open.", "sessions", INGRESS)
ingress_overloaded = declare(Gauge, "postroad_ingress_overloaded",
    "1 while new sessions and mails are put off for load.", "0 or 1", INGRESS)
credentials_reloads = declare(Counter, "postroad_credentials_reloads",
    "Changed credentials files read while running.", "reads", INGRESS, result=READ)
jwks_reloads = declare(Counter, "postroad_jwks_reloads",
    "Changed key sets of token issuers (JWKS) read while running.", "reads", INGRESS, result=READ)
certificate_reloads = declare(Counter, "postroad_certificate_reloads",
    "Changed certificates read while running.", "reads", INGRESS, result=READ)
certificate_seconds_left = declare(Gauge, "postroad_certificate_seconds_left",
    "Until the certificate that ingress shows expires; NaN where there is none.",
    "seconds", INGRESS)
certificate_seconds_left.set(math.nan)

# Routing.

routed_jobs = declare(TalliedCounter, "postroad_routed_jobs",
    "Delivery jobs published.", "jobs", ROUTER).labels()

# Attempts, and what became of recipients.

delivery_attempts = declare(TalliedCounter, "postroad_delivery_attempts",
    "Recipients attempted, by outcome.",
    "recipients", DELIVERY, provider=Configured.PROVIDER, outcome=OUTCOMES)
domain_attempts = declare(TalliedCounter, "postroad_domain_attempts",
    "Recipients attempted at the domains that `metrics.domains` names, by outcome.",
    "recipients", DELIVERY, domain=Configured.DOMAIN, outcome=OUTCOMES)
delivery_bytes = declare(TalliedCounter, "postroad_delivery_bytes",
    "Contents of the jobs of which something was delivered, once for each attempt.",
    "octets", DELIVERY, provider=Configured.PROVIDER)
retries = declare(TalliedCounter, "postroad_retries",
    "Jobs sent to a retry step, by what went wrong with the first recipient.",
    "jobs", ROUTED, step=Configured.RETRY_STEP, reason=RETRY_REASONS)
failures = declare(TalliedCounter, "postroad_failures",
    "Recipients given up, by class of reason.",
    "recipients", ROUTED, provider=Configured.PROVIDER, reason=FAILURE_REASONS)
queue_seconds = declare(_queue_seconds, "postroad_queue_seconds",
    "From acceptance to the final outcome of a recipient. `parked`: held for a person to decide, "
    "since it was perhaps delivered.", "seconds", ROUTED, class_=CLASSES, outcome=FINAL_OUTCOMES)
uncertain_outcomes = declare(Counter, "postroad_uncertain_outcomes",
    "Recipients whose receiver was lost between the content and its reply, by what was done.",
    "recipients", DELIVERY, policy=UNCERTAIN_POLICIES)
dsns = declare(Counter, "postroad_dsn",
    "Delivery status notifications published.", "notifications", ROUTED, action=DSN_ACTIONS)
parked_messages = declare(Counter, "postroad_parked_messages",
    "Messages moved to the parking queue.", "messages", ALL, reason=PARK_REASONS)

# Next hops.

tls_handshakes = declare(Counter, "postroad_tls_handshakes",
    "TLS with next hops: full, resumed, or failed.", "handshakes", DELIVERY, result=TLS_RESULTS)
pool_connections = declare(Gauge, "postroad_pool_connections",
    "Open connections to next hops.", "connections", DELIVERY)
paused_sites = declare(TalliedGauge, "postroad_paused_sites",
    "Sites with hosts that did not answer lately, and are left alone for the moment.",
    "sites", DELIVERY, provider=Configured.PROVIDER)
throttled_seconds = declare(TalliedCounter, "postroad_throttled_seconds",
    "Time that jobs waited because of a limit, here and in wait steps.",
    "seconds", DELIVERY, provider=Configured.PROVIDER)
given_back_jobs = declare(Counter, "postroad_given_back_jobs",
    "Jobs that come again later, without an attempt: `limit` (no turn yet), `late` (held long), "
    "`moved` (for another queue).", "jobs", DELIVERY, reason=GIVEN_BACK)
crowd_jobs = declare(Counter, "postroad_crowd_jobs",
    "Jobs that come again the slow way, since nobody waits for them.", "jobs", DELIVERY)

# What waits.

in_flight = declare(TalliedGauge, "postroad_in_flight_jobs",
    "Jobs or mails this process holds unsettled.", "messages", ROUTED).labels()
oldest_message_seconds = declare(TalliedGauge, "postroad_oldest_message_seconds",
    "Age, since acceptance, of the oldest job in the hands of this worker; 0 when it has none. See "
    "docs/metrics.md.", "seconds", DELIVERY, lane=Configured.LANE, class_=CLASSES)
queued_jobs = declare(TalliedGauge, "postroad_queued_jobs",
    "Jobs that wait in the queues of the partitions that this worker serves: `first`, or `again` "
    "for those that were tried or have a turn. Add them up over all workers.",
    "jobs", DELIVERY, lane=Configured.LANE, class_=CLASSES, kind=KINDS)
waiting_jobs = declare(TalliedGauge, "postroad_waiting_jobs",
    "Jobs that wait at each step of the ladder. Every process tells the same: take the maximum.",
    "jobs", ROUTED, step=Configured.STEP)
accepted_waiting = declare(TalliedGauge, "postroad_accepted_waiting",
    "Mails that the router has not taken yet. Every process tells the same: take the maximum.",
    "messages", ALL)
parked_waiting = declare(TalliedGauge, "postroad_parked_waiting",
    "Messages that lie in the parking queue. Every process tells the same: take the maximum.",
    "messages", ALL)

# Ownership.

members = declare(Gauge, "postroad_members",
    "Delivery workers of a lane that this one knows of.", "workers", DELIVERY, lane=Configured.LANE)
owned_partitions = declare(Gauge, "postroad_owned_partitions",
    "Partitions served here.", "partitions", DELIVERY, lane=Configured.LANE)
useful_workers = declare(TalliedGauge, "postroad_useful_workers",
    "How many workers of a lane the load of this one could occupy: more would change nothing. Add "
    "it up over all workers, and see docs/metrics.md.", "workers", DELIVERY, lane=Configured.LANE)
partition_owned = declare(Gauge, "postroad_partition_owned",
    "1 while this worker serves the partition.",
    "0 or 1", DELIVERY, lane=Configured.LANE, partition=Configured.PARTITION)
ownership_changes = declare(Counter, "postroad_ownership_changes",
    "Partitions taken, or given up and why.", "partitions", DELIVERY, change=OWNERSHIP_CHANGES)
ignored_heartbeats = declare(Counter, "postroad_ignored_heartbeats",
    "Announcements that this version cannot read.", "announcements", DELIVERY)

# The broker.

publish_seconds = declare(_seconds, "postroad_publish_seconds",
    "From publish to its confirm.", "seconds", ALL).labels()
publish_failures = declare(Counter, "postroad_publish_failures",
    "Publishes not confirmed.", "messages", ALL, error=PUBLISH_ERRORS)
broker_usable = declare(Gauge, "postroad_broker_usable",
    "1 while the broker is connected and not blocked.", "0 or 1", ALL)
broker_blocked = declare(Gauge, "postroad_broker_blocked",
    "1 while the broker asks publishers to wait: a memory or disk alarm, or a full disk.",
    "0 or 1", ALL)
broker_reconnects = declare(Counter, "postroad_broker_reconnects",
    "Connections to the broker lost.", "connections", ALL)

# What is told of the mail.

events: TalliedCounter = declare(TalliedCounter, "postroad_events",
    "Events of the mail that were made, by what happened.", "events", ALL, event=EVENTS_MADE)
dropped_events: TalliedCounter = declare(TalliedCounter, "postroad_dropped_events",
    "Events that were not told: `full` (the broker does not take them, and the buffer is full), "
    "`lost` (the connection ended), `follower` (it is too slow; embedded broker), `long`.",
    "events", ALL, reason=EVENTS_DROPPED)
guaranteed_events_waiting = declare(TalliedGauge, "postroad_guaranteed_events_waiting",
    "Events in `postroad.events.guaranteed` that nobody has read yet. Every process tells the "
    "same: take the maximum.", "events", ALL)

# The process.

build_info = declare(Gauge, "postroad_build_info",
    "Always 1; the labels tell what runs.", "1", ALL, version=Configured.VERSION, service=ALL)
loop_lag_seconds = declare(_seconds, "postroad_loop_lag_seconds",
    "By how much the event loop was late, looked at once a second.", "seconds", ALL).labels()
config_reloads = declare(Counter, "postroad_config_reloads",
    "Changed configuration files read while running.", "reads", ALL, result=READ)
dropped_log_lines = declare(Counter, "postroad_dropped_log_lines",
    "Log lines that could not be written.", "lines", ALL)
spans = declare(Counter, "postroad_spans",
    "Spans of traces: `exported`, or `dropped` since the collector did not take them.",
    "spans", ALL, result=SPAN_RESULTS)

# fmt: on


def count_auth(mechanism: str, result: str) -> None:
    """One AUTH command; `result` is one of `AUTH_RESULTS`, `mechanism` whatever a client said."""
    known = mechanism if mechanism in AUTH_MECHANISMS else "other"
    ingress_auth.labels(known, result).inc()


def exemplify_age(
    message_class: MessageClass, outcome: str, seconds: float, trace_id: str, at: float
) -> None:
    """An age that `queue_seconds` has observed has this trace, which is recorded."""
    age = queue_seconds.labels(message_class.value, outcome)
    age.exemplify(seconds, trace_id, at)


def throttled_by(providers: Collection[str]) -> Mapping[str, Callable[[float], None]]:
    """How to count the time that jobs of each of these providers waited because of a limit."""
    return {provider: throttled_seconds.labels(provider).inc for provider in providers}
