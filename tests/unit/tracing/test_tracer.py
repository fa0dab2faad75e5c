"""Tracing that is off costs nothing and needs nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from shared.settings.tracing import TracingSettings
from shared.tracing.otel import OtelTracer
from shared.tracing.tracer import open_tracer

ROOT = Path(__file__).parents[3]

OFF = """
import sys
sys.modules["opentelemetry"] = None  # as where it is not installed
import services.cli, services.ingress.main, services.router.main, services.delivery.main
from shared.settings.tracing import TracingSettings
from shared.tracing.tracer import check_tracing, open_tracer
assert open_tracer(TracingSettings(), "ingress") is None
check_tracing(TracingSettings())
print([name for name in sys.modules if name.startswith("opentelemetry.")])
"""


def test_without_an_endpoint_there_is_no_tracer_and_nothing_is_imported() -> None:
    command = [sys.executable, "-c", OFF]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)

    assert done.stdout == "[]\n"


async def test_with_an_endpoint_there_is_one() -> None:
    settings = TracingSettings(endpoint="http://127.0.0.1:9/v1/traces")
    tracer = open_tracer(settings, "ingress")

    assert isinstance(tracer, OtelTracer)
    await tracer.close()
