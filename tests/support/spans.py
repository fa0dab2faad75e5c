"""What becomes of spans, for tests: a tracer that keeps them, and a collector that takes them.

`Collector` is a real one over HTTP (OTLP, protobuf) in the test's process; services of any number
of processes send to it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.tracing.otel import OtelTracer


@dataclass(frozen=True)
class Seen:
    """A span, as a collector knows it. Times are seconds since the epoch."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began: float
    ended: float
    error: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def traceparent(self) -> str:
        """What its messages carry."""
        return f"00-{self.trace_id}-{self.span_id}-01"


class KeptSpans:
    """A tracer of a service, and the spans that it has recorded."""

    def __init__(self, service: str = "test", ratio: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer = OtelTracer(self._exporter, service, ratio)

    async def all(self) -> list[Seen]:
        """All spans that have ended; the tracer is closed."""
        await self.tracer.close()
        return sorted(map(_seen, self._exporter.get_finished_spans()), key=lambda one: one.began)


def _seen(span: ReadableSpan) -> Seen:
    context = span.context
    assert context is not None
    assert span.start_time is not None
    assert span.end_time is not None
    return Seen(
        str(span.resource.attributes["service.name"]),
        span.name,
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        "" if span.parent is None else f"{span.parent.span_id:016x}",
        span.start_time / 1e9,
        span.end_time / 1e9,
        span.status.description or "",
        dict(span.attributes or {}),
    )


class Collector:
    """Takes spans on a free port of loopback while `status` is 200, else refuses them."""

    def __init__(self) -> None:
        self.status = 200
        self.spans: list[Seen] = []
        self.asked = 0
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.asked += 1
                if collector.status == 200:
                    collector.spans += _received(body)
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing: the test tells."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    async def wait_for(self, enough: Callable[[Sequence[Seen]], bool]) -> list[Seen]:
        """All spans, in the order of their beginnings, once there are `enough`."""
        async with asyncio.timeout(20):
            while not enough(self.spans):
                await asyncio.sleep(0.02)  # they come from other processes, on another thread
        return sorted(self.spans, key=lambda one: one.began)


def _received(body: bytes) -> list[Seen]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Seen(
            _values(resource.resource.attributes)["service.name"],
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.start_time_unix_nano / 1e9,
            span.end_time_unix_nano / 1e9,
            span.status.message,
            _values(span.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
