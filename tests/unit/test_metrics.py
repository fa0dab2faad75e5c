"""The names and labels that dashboards and operators' scripts rely on."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from prometheus_client import generate_latest

from shared import metrics

PROMISED = {
    "postroad_accepted_messages_total": (),
    "postroad_refused_messages_total": ("reason",),
    "postroad_delivery_attempts_total": ("outcome",),
    "postroad_retries_total": ("step",),
    "postroad_failures_total": ("reason",),
    "postroad_dsn_total": ("action",),
    "postroad_parked_messages_total": ("reason",),
}


@pytest.mark.parametrize(("name", "labels"), PROMISED.items())
def test_a_promised_metric_is_exported_with_its_labels(name: str, labels: tuple[str, ...]) -> None:
    metrics.retries.labels("1m")
    samples = re.findall(rf"^{name}(?:{{(.*)}})? ", generate_latest().decode(), re.MULTILINE)
    assert samples
    assert {tuple(re.findall(r"(\w+)=", sample)) for sample in samples} == {labels}


def test_a_failure_that_never_happened_is_exported_as_zero() -> None:
    code = "import shared.metrics, prometheus_client as p; print(p.generate_latest().decode())"
    fresh = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 'postroad_failures_total{reason="expired"} 0.0' in fresh.stdout


def test_every_metric_has_the_prefix_and_no_creation_time() -> None:
    names = set(re.findall(r"^# TYPE (\S+)", generate_latest().decode(), re.MULTILINE))
    ours = {name for name in names if not name.startswith(("python_", "process_"))}
    assert all(name.startswith("postroad_") for name in ours)
    assert not any(name.endswith("_created") for name in names)
