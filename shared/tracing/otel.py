"""The tracer on OpenTelemetry: spans go to a collector in batches, from a thread of the library.

A collector that is slow or gone costs spans, which are counted, and never mail: what waits is
bounded, nothing here waits for the thread but `close`, and that for `FLUSH` at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode

from shared import metrics
from shared.log_text import escape
from shared.logs import clip, get_logger
from shared.settings.tracing import TracingSettings
from shared.tracing.traceparent import Traceparent, parse_traceparent
from shared.tracing.tracer import FLUSH, Attributes, Kind

MOST_WAITING = 4096
"""Spans that wait for the collector; the next ones are dropped."""
BATCH = 256
"""Spans sent at a time: to encode them holds the event loop up for some milliseconds."""
DELAY_MS = 1000
"""Until a batch that is not full is sent."""
PATIENCE = 5.0
"""Seconds that the collector may take for a batch, with all tries."""

_KINDS = {
    Kind.SERVER: SpanKind.SERVER,
    Kind.CONSUMER: SpanKind.CONSUMER,
    Kind.CLIENT: SpanKind.CLIENT,
}
_exported, _dropped = (metrics.spans.labels(result).inc for result in metrics.SPAN_RESULTS)


class OtelSpan:
    """See `shared.tracing.tracer.Span`."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = str(
            Traceparent(f"{context.trace_id:032x}", f"{context.span_id:016x}", sampled=True)
        )

    def end(self, at: float, attributes: Attributes, error: str = "") -> None:
        """See `Span.end`."""
        try:
            for name, value in attributes.items():
                kept = escape(clip(value)) if isinstance(value, str) else value
                self._span.set_attribute(name, kept)
            if error:
                self._span.set_status(Status(StatusCode.ERROR, error))
            self._span.end(_nanoseconds(at))
        except Exception as trouble:  # a span is never worth a mail
            _lost(trouble)


class OtelTracer:
    """See `shared.tracing.tracer.Tracer`. `ratio` is of traces that begin here.

    `patience`: seconds that the last spans may take.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        service: str,
        ratio: float,
        chance: Callable[[], float] = random.random,
        patience: float = FLUSH,
    ) -> None:
        self._ratio = ratio
        self._chance = chance
        self._patience = patience
        self._batches = _Batches(_Counted(exporter))
        self._provider = TracerProvider(ALWAYS_ON, _resource(service), shutdown_on_exit=False)
        self._provider.add_span_processor(self._batches)
        self._tracer = self._provider.get_tracer("postroad", version("postroad"))

    @classmethod
    def exporting(cls, settings: TracingSettings, service: str) -> OtelTracer:
        """One that sends to the collector of the settings."""
        # It tells of every batch that fails; we tell once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=PATIENCE)
        return cls(exporter, service, settings.ratio)

    def begin(self, name: str, kind: Kind, at: float, parent: str = "") -> OtelSpan | None:
        """See `Tracer.begin`."""
        try:
            context = _context(parent) if parent else self._root()
            if context is None:
                return None
            span = self._tracer.start_span(name, context, _KINDS[kind], start_time=_nanoseconds(at))
            return OtelSpan(span) if span.is_recording() else None
        except Exception as trouble:  # a span is never worth a mail
            _lost(trouble)
            return None

    def _root(self) -> Context | None:
        return Context() if self._chance() < self._ratio else None

    async def close(self) -> None:
        """See `Tracer.close`."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(closed.set)

        # Of our own, since the loop would wait for a thread of its pool.
        threading.Thread(target=shut_down, daemon=True).start()
        try:
            async with asyncio.timeout(self._patience):
                await closed.wait()
        except TimeoutError:
            get_logger().warning("the last spans were not taken", spans=self._batches.waiting)


class _Counted(SpanExporter):
    """Counts what becomes of spans, and says once when a collector takes none, or takes them again.

    Called on the library's thread.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter`."""
        self.taken += len(spans)
        try:
            result = self._exporter.export(spans)
        except Exception as trouble:
            result = SpanExportResult.FAILURE
            get_logger().debug("spans were not sent", error=clip(repr(trouble)))
        failed = result is not SpanExportResult.SUCCESS
        (_dropped if failed else _exported)(len(spans))
        if failed and not self._failing:
            get_logger().warning("the collector takes no spans")
        elif self._failing and not failed:
            get_logger().info("the collector takes spans again")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """See `SpanExporter`."""
        self._exporter.shutdown()


class _Batches(BatchSpanProcessor):
    """Drops the newest spans, and counts them, where the library drops the oldest in silence."""

    def __init__(self, exporter: _Counted) -> None:
        super().__init__(
            exporter,
            max_queue_size=MOST_WAITING,
            schedule_delay_millis=DELAY_MS,
            max_export_batch_size=BATCH,
        )
        self._counted = exporter
        self._ended = 0

    @property
    def waiting(self) -> int:
        """Spans that nobody has tried to send yet."""
        return self._ended - self._counted.taken

    def on_end(self, span: ReadableSpan) -> None:
        """See `SpanProcessor`."""
        if self.waiting >= MOST_WAITING:
            _dropped()
            return
        self._ended += 1
        super().on_end(span)


def _lost(trouble: Exception) -> None:
    _dropped()
    get_logger().debug("a span was lost", error=clip(repr(trouble)))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _context(parent: str) -> Context | None:
    """None: the parent is not recorded, so nothing below it is."""
    found = parse_traceparent(parent)
    if found is None or not found.sampled:
        return None
    remote = SpanContext(
        int(found.trace_id, 16),
        int(found.span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())


def _resource(service: str) -> Resource:
    return Resource.create(
        {
            "service.name": f"postroad-{service}",
            "service.namespace": "postroad",
            "service.version": version("postroad"),
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        }
    )
