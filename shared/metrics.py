"""Every metric of postroad, registered once. Labels are bounded: never a domain, address or id.

Children are bound here, so that the hot path only calls `inc` or `observe`. Known label sets
start at 0, so that an alert on a rate sees the first failure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from prometheus_client import Counter, Gauge, disable_created_metrics

from shared.broker.interface import ParkReason
from shared.tally import TalliedCounter, TalliedGauge, TalliedHistogram

disable_created_metrics()

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600)
QUEUE_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 15, 60, 300, 900, 3600, 14400, 86400, 259200)

OUTCOMES = ("delivered", "deferred", "failed", "unknown")
FAILURE_REASONS = (
    "address", "mailbox", "message", "policy", "routing", "protocol", "expired", "other",
)  # fmt: skip
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


def _known(metric: Counter | TalliedCounter | TalliedHistogram, values: Iterable[str]) -> None:
    for value in values:
        metric.labels(value)


accepted_messages = TalliedCounter(
    "postroad_accepted_messages", "Transactions answered 250."
).labels()
refused_messages = Counter(
    "postroad_refused_messages", "Transactions or commands refused, by reason.", ["reason"]
)
ingress_auth = Counter(
    "postroad_ingress_auth", "AUTH commands, by mechanism and what came of them.",
    ["mechanism", "result"],
)  # fmt: skip
sessions = Gauge("postroad_ingress_sessions", "SMTP sessions that are open.")
ingress_overloaded = Gauge(
    "postroad_ingress_overloaded", "1 while new sessions and mails are put off for load."
)
publish_seconds = TalliedHistogram(
    "postroad_publish_seconds", "From publish to its confirm.", SECONDS
).labels()
publish_failures = Counter("postroad_publish_failures", "Publishes not confirmed.", ["error"])
routed_jobs = TalliedCounter(
    "postroad_routed_jobs", "Delivery jobs published by the router."
).labels()
delivery_attempts = TalliedCounter(
    "postroad_delivery_attempts", "Recipients attempted, by outcome.", "outcome"
)
retries = Counter("postroad_retries", "Jobs sent to a retry step.", ["step"])
failures = Counter("postroad_failures", "Recipients given up, by class of reason.", ["reason"])
dsns = Counter("postroad_dsn", "Delivery status notifications published.", ["action"])
parked_messages = Counter(
    "postroad_parked_messages", "Messages moved to the parking queue.", ["reason"]
)
given_back_jobs = Counter(
    "postroad_given_back_jobs", "Jobs that come again later, without an attempt.", ["reason"]
)
crowd_jobs = Counter(
    "postroad_crowd_jobs", "Jobs that come again the slow way, since nobody waits for them"
)
throttled_seconds = TalliedCounter(
    "postroad_throttled_seconds", "Time that jobs waited because of a limit.", "provider"
)
uncertain_outcomes = Counter(
    "postroad_uncertain_outcomes",
    "Recipients whose receiver was lost between the content and its reply, by what was done.",
    ["policy"],
)
tls_handshakes = Counter(
    "postroad_tls_handshakes", "TLS with next hops: full, resumed, or failed.", ["result"]
)
in_flight = TalliedGauge(
    "postroad_in_flight_jobs", "Jobs or mails this process holds unsettled."
).labels()
pool_connections = Gauge("postroad_pool_connections", "Open connections to next hops.")
queue_seconds = TalliedHistogram(
    "postroad_queue_seconds",
    "From acceptance to the final outcome of a recipient.",
    QUEUE_SECONDS,
    "outcome",
)
members = Gauge("postroad_members", "Delivery workers of a lane that this one knows of.", ["lane"])
owned_partitions = Gauge("postroad_owned_partitions", "Partitions served here.", ["lane"])
partition_owned = Gauge(
    "postroad_partition_owned", "1 while this worker serves the partition.", ["lane", "partition"]
)
ownership_changes = Counter(
    "postroad_ownership_changes", "Partitions taken, or given up and why.", ["change"]
)
ignored_heartbeats = Counter(
    "postroad_ignored_heartbeats", "Announcements that this version cannot read."
)
broker_usable = Gauge("postroad_broker_usable", "1 while the broker is connected and not blocked.")
broker_reconnects = Counter("postroad_broker_reconnects", "Connections to the broker lost.")
config_reloads = Counter(
    "postroad_config_reloads", "Changed configuration files read while running.", ["result"]
)
credentials_reloads = Counter(
    "postroad_credentials_reloads", "Changed credentials files read while running.", ["result"]
)
jwks_reloads = Counter(
    "postroad_jwks_reloads", "Changed key sets (JWKS) read while running.", ["result"]
)
certificate_reloads = Counter(
    "postroad_certificate_reloads", "Changed certificates read while running.", ["result"]
)
certificate_seconds_left = Gauge(
    "postroad_certificate_seconds_left", "Until the certificate that ingress shows expires."
)
dropped_log_lines = Counter("postroad_dropped_log_lines", "Log lines that could not be written.")

_known(refused_messages, REFUSALS)
for _mechanism in AUTH_MECHANISMS:
    for _result in AUTH_RESULTS:
        ingress_auth.labels(_mechanism, _result)
_known(publish_failures, ("unavailable", "refused", "unroutable"))
_known(delivery_attempts, OUTCOMES)
_known(config_reloads, ("ok", "failed"))
_known(credentials_reloads, ("ok", "failed"))
_known(jwks_reloads, ("ok", "failed"))
_known(certificate_reloads, ("ok", "failed"))
_known(failures, FAILURE_REASONS)
_known(dsns, DSN_ACTIONS)
_known(uncertain_outcomes, UNCERTAIN_POLICIES)
_known(tls_handshakes, TLS_RESULTS)
_known(parked_messages, [reason.value for reason in ParkReason])
_known(ownership_changes, OWNERSHIP_CHANGES)
_known(given_back_jobs, GIVEN_BACK)
_known(queue_seconds, ("delivered", "failed"))


def count_auth(mechanism: str, result: str) -> None:
    """One AUTH command; `result` is one of `AUTH_RESULTS`, `mechanism` whatever a client said."""
    known = mechanism if mechanism in AUTH_MECHANISMS else "other"
    ingress_auth.labels(known, result).inc()


def throttled_by(providers: Collection[str]) -> Mapping[str, Callable[[float], None]]:
    """How to count the time that jobs of each of these providers waited because of a limit."""
    _known(throttled_seconds, providers)
    return {provider: throttled_seconds.labels(provider).inc for provider in providers}
