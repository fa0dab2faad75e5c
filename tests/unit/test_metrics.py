"""The names and labels that dashboards, alerts and operators' scripts rely on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from shared import metrics
from shared.catalogue import ALL, CATALOGUE, Configured, Declared, registry_of, start_at_zero
from shared.metrics_document import metrics_page

ROOT = Path(__file__).parents[2]

PROMISED = {
    "postroad_accepted_messages_total": (),
    "postroad_refused_messages_total": ("reason",),
    "postroad_delivery_attempts_total": ("provider", "outcome"),
    "postroad_retries_total": ("step", "reason"),
    "postroad_failures_total": ("provider", "reason"),
    "postroad_queue_seconds": ("class", "outcome"),
    "postroad_dsn_total": ("action",),
    "postroad_parked_messages_total": ("reason",),
    "postroad_domain_attempts_total": ("domain", "outcome"),
    "postroad_queued_jobs": ("lane", "class", "kind"),
    "postroad_waiting_jobs": ("step",),
    "postroad_accepted_waiting": (),
    "postroad_parked_waiting": (),
    "postroad_oldest_message_seconds": ("lane", "class"),
    "postroad_paused_sites": ("provider",),
    "postroad_loop_lag_seconds": (),
    "postroad_build_info": ("version", "service"),
}
LIBRARY = re.compile(r"(python|process)_")


def found(name: str) -> Declared:
    (declared,) = (declared for declared in CATALOGUE if declared.name == name)
    return declared


@pytest.mark.parametrize(("name", "labels"), PROMISED.items())
def test_a_promised_metric_has_its_labels(name: str, labels: tuple[str, ...]) -> None:
    assert tuple(found(name).labels) == labels


def test_the_committed_page_is_the_generated_one() -> None:
    committed = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")

    assert committed == metrics_page(), "run: make docs"


def test_the_page_has_a_line_for_every_metric_of_every_service() -> None:
    page = metrics_page()
    exported = generate_latest().decode()
    names = set(re.findall(r"^# TYPE (postroad_\w+)", exported, re.MULTILINE))

    metrics.sessions.set(0)
    assert len(names) > 30
    assert sorted(name for name in names if f"| `{name}` |" not in page) == []


@pytest.mark.parametrize("declared", CATALOGUE, ids=lambda declared: declared.name)
def test_every_metric_has_a_meaning_a_unit_and_a_service(declared: Declared) -> None:
    assert declared.meaning.endswith(".")
    assert declared.unit
    assert set(declared.services) <= set(ALL)
    assert ("_seconds" in declared.name) == (declared.unit == "seconds")
    assert ("_bytes" in declared.name) == (declared.unit == "octets")


@pytest.mark.parametrize("service", ALL)
def test_a_service_exposes_its_own_metrics_and_those_of_the_process(service: str) -> None:
    text = generate_latest(registry_of(service)).decode()
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    ours = {name for name in names if not LIBRARY.match(name)}

    assert len(names) == len(set(names))
    assert ours == {one.name for one in CATALOGUE if service in one.services}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= {
        *names
    }


FRESH = """
import sys
import shared.metrics
from shared.catalogue import Configured, registry_of, start_at_zero
from prometheus_client import generate_latest
start_at_zero("delivery", {
    Configured.PROVIDER: ["google", "other"], Configured.RETRY_STEP: ["1m", "4h"],
    Configured.DOMAIN: ["a.test"],
})
sys.stdout.write(generate_latest(registry_of("delivery")).decode())
"""


def test_what_never_happened_is_exposed_as_zero_in_all_its_known_forms() -> None:
    command = [sys.executable, "-c", FRESH]
    fresh = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    page = fresh.stdout

    for reason in metrics.FAILURE_REASONS:
        assert f'postroad_failures_total{{provider="google",reason="{reason}"}} 0.0' in page
    for reason in metrics.RETRY_REASONS:
        assert f'postroad_retries_total{{reason="{reason}",step="4h"}} 0.0' in page
    for outcome in metrics.OUTCOMES:
        assert f'postroad_domain_attempts_total{{domain="a.test",outcome="{outcome}"}} 0.0' in page
    for outcome in metrics.FINAL_OUTCOMES:
        assert f'postroad_queue_seconds_count{{class="bulk",outcome="{outcome}"}} 0.0' in page
    assert 'postroad_throttled_seconds_total{provider="other"} 0.0' in page
    assert "_created" not in page


def test_labels_that_are_not_known_yet_start_nothing() -> None:
    start_at_zero("ingress", {Configured.LANE: ["surprise"]})

    assert "surprise" not in generate_latest().decode()
