"""Which series there are for rules and dashboards to name, and what is wrong with an expression."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from shared.catalogue import CATALOGUE, Configured
from tests.support.promql import names_in

importlib.import_module("shared.metrics")  # fills the catalogue

Values = tuple[str, ...] | Configured
ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "postroad.rules.yaml"

TARGET = frozenset({"namespace", "job", "instance"})
"""Labels that Prometheus adds."""
PROCESS = (
    "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds",
    "process_max_fds", "process_start_time_seconds", "up",
)  # fmt: skip
RABBITMQ: Mapping[str, frozenset[str]] = {
    "rabbitmq_detailed_queue_messages_ready": frozenset({"queue", "vhost"}),
    "rabbitmq_detailed_queue_messages_unacked": frozenset({"queue", "vhost"}),
    "rabbitmq_detailed_queue_consumers": frozenset({"queue", "vhost"}),
    "rabbitmq_resident_memory_limit_bytes": frozenset(),
    "rabbitmq_process_resident_memory_bytes": frozenset(),
    "rabbitmq_disk_space_available_bytes": frozenset(),
    "rabbitmq_disk_space_available_limit_bytes": frozenset(),
    "rabbitmq_alarms_memory_used_watermark": frozenset(),
    "rabbitmq_alarms_free_disk_space_watermark": frozenset(),
    "rabbitmq_global_messages_received_confirm_total": frozenset({"protocol"}),
    "rabbitmq_global_messages_confirmed_total": frozenset({"protocol"}),
    "rabbitmq_global_messages_redelivered_total": frozenset({"protocol", "queue_type"}),
    "rabbitmq_global_messages_dead_lettered_expired_total": frozenset(
        {"queue_type", "dead_letter_strategy"}
    ),
    "rabbitmq_global_messages_dead_lettered_confirmed_total": frozenset(
        {"queue_type", "dead_letter_strategy"}
    ),
}
"""Of RabbitMQ's own exporter (rabbitmq_prometheus), as far as a dashboard shows it."""
_SUFFIXES = {"histogram": ("_bucket", "_count", "_sum")}


def rules() -> list[dict[str, Any]]:
    """Every rule of the file, in order."""
    document = yaml.safe_load(RULES.read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def series() -> dict[str, dict[str, Values]]:
    """The labels of every series, with their values where the code bounds them."""
    found: dict[str, dict[str, Values]] = {}
    for declared in CATALOGUE:
        for suffix in _SUFFIXES.get(declared.kind, ("",)):
            bound = {"le": Configured.VERSION} if suffix == "_bucket" else {}
            found[declared.name + suffix] = {**declared.labels, **bound}
    found |= {name: {} for name in PROCESS}
    found |= {name: dict.fromkeys(labels, Configured.LANE) for name, labels in RABBITMQ.items()}
    found |= {rule["record"]: {} for rule in rules() if "record" in rule}
    found["ALERTS"] = dict.fromkeys(("alertname", "alertstate"), Configured.LANE)
    return found


def faults(expression: str) -> Iterator[str]:
    """What in an expression names nothing that is exported; each fault is one line."""
    known, named = series(), names_in(expression)
    grouped = set(named.grouped) - TARGET
    for name, matchers in named.metrics.items():
        if name not in known:
            yield f"{name} is no metric"
            continue
        grouped -= known[name].keys()
        for label, operator, text in matchers:
            if label not in known[name] and label not in TARGET:
                yield f"{name} has no label {label}"
            elif label in known[name] and "$" not in text and operator in {"=", "=~", "!~"}:
                yield from _wrong_values(name, label, known[name][label], text)
    yield from (f"no metric in it has the label {label}" for label in sorted(grouped))


def _wrong_values(name: str, label: str, known: Values, text: str) -> Iterator[str]:
    if isinstance(known, tuple):
        for value in text.split("|"):
            if value not in {*known, ".*"}:
                yield f"{name} has no {label} {value!r}"
