"""Structured logs on standard error: JSON lines, or a readable form on a terminal.

One line for each change of custody, ids first. JSON escapes control characters, so text from
peers cannot break a line or a terminal; the readable form escapes it with `repr`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

import msgspec
import structlog

from shared.messages.model import Event
from shared.settings.model import LoggingSettings

LONGEST_TEXT = 512
"""Characters of one value from outside that a line may carry."""


def configure_logging(settings: LoggingSettings) -> None:
    """Set up structlog for this process. Libraries' own loggers stay at warnings."""
    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=_json_chain() if as_json else _console_chain(),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer)
        if as_json
        else structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("mail.log").setLevel(logging.ERROR)


def _json_chain() -> list[Any]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt=None),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_to_json),
    ]


def _console_chain() -> list[Any]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f"),
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
    ]


def _to_json(event: Any, **_: Any) -> bytes:
    return msgspec.json.encode(event, enc_hook=repr)


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """The process's logger; bind ids to it rather than formatting them into text."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


def clip(text: str) -> str:
    """Text from a peer, no longer than a log line may carry."""
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "..."


def log_event(event: Event) -> None:
    """Log one change of custody."""
    fields = msgspec.structs.asdict(event)
    kind = fields.pop("kind")
    del fields["schema"]
    get_logger().info(kind, **{name: value for name, value in fields.items() if value})
