"""The tracer on OpenTelemetry: what is recorded, and that a lost span is all that can be lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import REGISTRY

from shared.logs import LONGEST_TEXT, configure_logging
from shared.settings.model import LoggingSettings
from shared.tracing.otel import BATCH, MOST_WAITING, OtelTracer
from shared.tracing.tracer import Kind
from tests.support.log_state import log_state_kept
from tests.support.spans import KeptSpans

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOW = 1795507200.5


@pytest.fixture(autouse=True)
def _json_logs() -> Iterator[None]:
    with log_state_kept():
        configure_logging(LoggingSettings(format="json"))
        yield


def spans(result: str) -> float:
    return REGISTRY.get_sample_value("postroad_spans_total", {"result": result}) or 0.0


class Moody(SpanExporter):
    """A collector that takes spans, refuses them, fails, or does not answer."""

    def __init__(self) -> None:
        self.does: Callable[[], SpanExportResult] = lambda: SpanExportResult.SUCCESS
        self.asked = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        return self.does()

    def shutdown(self) -> None:
        """Nothing to end."""


def record(tracer: OtelTracer, count: int = 1) -> None:
    for _ in range(count):
        span = tracer.begin("accept", Kind.SERVER, NOW)
        assert span is not None
        span.end(NOW, {})


async def test_a_span_has_its_times_its_attributes_and_its_service() -> None:
    kept = KeptSpans("ingress")
    span = kept.tracer.begin("accept", Kind.SERVER, NOW)
    assert span is not None
    span.end(NOW + 0.25, {"postroad.recipients": 2, "server.address": "mx.test"}, "refused")

    (seen,) = await kept.all()
    assert (seen.service, seen.name, seen.error) == ("postroad-ingress", "accept", "refused")
    assert (seen.began, seen.ended) == pytest.approx((NOW, NOW + 0.25), abs=1e-6)
    assert seen.attributes == {"postroad.recipients": 2, "server.address": "mx.test"}
    assert span.traceparent == seen.traceparent


async def test_a_span_below_another_is_in_its_trace() -> None:
    kept = KeptSpans()
    above = kept.tracer.begin("route", Kind.CONSUMER, NOW, PARENT)
    assert above is not None
    below = kept.tracer.begin("attempt", Kind.CLIENT, NOW + 1, above.traceparent)
    assert below is not None
    below.end(NOW + 2, {})
    above.end(NOW + 3, {})

    route, attempt = await kept.all()
    assert {route.trace_id, attempt.trace_id} == {PARENT[3:35]}
    assert (route.parent_id, attempt.parent_id) == (PARENT[36:52], route.span_id)


@pytest.mark.parametrize("parent", [PARENT[:-1] + "0", "nonsense", PARENT.upper()])
async def test_below_what_is_not_recorded_nothing_is(parent: str) -> None:
    assert KeptSpans().tracer.begin("route", Kind.CONSUMER, NOW, parent) is None


@pytest.mark.parametrize(("chance", "recorded"), [(0.0, True), (0.249, True), (0.25, False)])
async def test_chance_decides_where_a_trace_begins(chance: float, recorded: bool) -> None:
    tracer = OtelTracer(Moody(), "test", 0.25, lambda: chance)

    assert (tracer.begin("accept", Kind.SERVER, NOW) is not None) == recorded
    assert tracer.begin("route", Kind.CONSUMER, NOW, PARENT) is not None
    await tracer.close()


async def test_whatever_text_there_is_comes_through_harmless_and_short() -> None:
    kept = KeptSpans()
    span = kept.tracer.begin("attempt", Kind.CLIENT, NOW, PARENT)
    assert span is not None
    span.end(NOW, {"a": "\ud800\x1b[2J", "b": "x" * 10_000})

    (seen,) = await kept.all()
    assert seen.attributes["a"] == r"\ud800\u001b[2J"
    assert len(seen.attributes["b"]) == LONGEST_TEXT + 3


async def test_spans_are_counted_and_a_collector_that_fails_is_told_of_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    exporter, before = Moody(), (spans("exported"), spans("dropped"))
    tracer = OtelTracer(exporter, "test", 1.0)

    def fail() -> SpanExportResult:
        raise OSError("gone")

    for does in (fail, lambda: SpanExportResult.FAILURE, lambda: SpanExportResult.SUCCESS):
        exporter.does = does
        record(tracer, 3)
        tracer._provider.force_flush()
    await tracer.close()

    assert (spans("exported") - before[0], spans("dropped") - before[1]) == (3, 6)
    told = [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines()]
    assert told == ["the collector takes no spans", "the collector takes spans again"]


async def test_what_waits_for_a_collector_is_bounded_and_the_rest_is_dropped() -> None:
    exporter, before = Moody(), spans("dropped")
    answers = threading.Event()

    def wait() -> SpanExportResult:
        answers.wait(10)
        return SpanExportResult.SUCCESS

    exporter.does = wait
    tracer = OtelTracer(exporter, "test", 1.0)
    record(tracer, BATCH)
    assert exporter.asked.wait(10)
    record(tracer, MOST_WAITING + 7)
    assert spans("dropped") - before == 7
    answers.set()
    await tracer.close()


async def test_a_collector_that_does_not_answer_does_not_keep_a_process(
    capfd: pytest.CaptureFixture[str],
) -> None:
    exporter, answers = Moody(), threading.Event()
    exporter.does = lambda: (answers.wait(30), SpanExportResult.SUCCESS)[1]
    tracer = OtelTracer(exporter, "test", 1.0, patience=0.05)
    record(tracer)
    await tracer.close()
    assert not answers.is_set()
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "the last spans were not taken"
    answers.set()
