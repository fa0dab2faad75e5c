"""Spans as the services see them. There is no tracer where tracing is off: one `is None`.

A span is recorded when it ends, and only of traces that are sampled: where a trace begins, that is
decided by chance, and everywhere else by what the message carries. Nothing here raises, blocks or
waits for a collector.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from shared.settings.load import ConfigError
from shared.settings.tracing import TracingSettings

if TYPE_CHECKING:
    from shared.tracing.otel import OtelTracer

EXTRA = "postroad[tracing]"

Attributes = Mapping[str, str | int | float | bool]
"""Names follow OpenTelemetry's conventions where there are any, else they begin with `postroad.`.

Never an address, a reply's text or anything of a content: spans go where logs do not.
"""


class Kind(Enum):
    """Which side of a call a span is (OpenTelemetry: SpanKind)."""

    SERVER = "server"
    CONSUMER = "consumer"
    CLIENT = "client"


class Span(Protocol):
    """Something that has begun, of a trace that is recorded."""

    traceparent: str
    """What the messages carry that this causes."""

    def end(self, at: float, attributes: Attributes, error: str = "") -> None:
        """It is over; `error` is the class of what went wrong, empty if nothing did."""


class Tracer(Protocol):
    """Records spans. Times are seconds since the epoch."""

    def begin(self, name: str, kind: Kind, at: float, parent: str = "") -> Span | None:
        """None: not recorded. `parent` is a `traceparent`; empty begins a trace."""

    async def close(self) -> None:
        """Send what there is, for as long as `FLUSH` at most; the rest is lost."""


FLUSH = 2.0
"""Seconds of a drain that the last spans may take."""


def open_tracer(settings: TracingSettings, service: str) -> Tracer | None:
    """The tracer of a service; None where tracing is off.

    Raises `ConfigError` where it is on, and OpenTelemetry is not installed.
    """
    return _library().exporting(settings, service) if settings.endpoint else None


def check_tracing(settings: TracingSettings) -> None:
    """Raise `ConfigError` where `open_tracer` would; nothing is opened."""
    if settings.endpoint:
        _library()


def _library() -> type[OtelTracer]:
    try:
        from shared.tracing.otel import OtelTracer  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise ConfigError(
            f"tracing.endpoint: {error.name} is not installed: pip install '{EXTRA}'"
        ) from error
    return OtelTracer
