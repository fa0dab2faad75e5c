"""Structured logs on standard error: JSON lines, or a readable form on a terminal.

One line for each change of custody, ids first, whole lines in each write. Text from peers can
neither break a line nor drive a terminal: control and formatting characters are escaped in both
forms. Logs go before mail does: a line that cannot be written is counted and dropped, never raised.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, cast

import msgspec
import structlog

from shared import metrics
from shared.log_sampling import Kept, sampling
from shared.log_text import escape, to_json
from shared.messages.model import DeliveryJob, Event
from shared.settings.model import LoggingSettings

LONGEST_TEXT = 512
"""Characters of one value from outside that a line may carry."""

IDS = ("mail_id", "job_id", "message_id")
"""What a line begins with, as far as it has them, in both forms."""
_HEAD = (*IDS, "event", "level", "timestamp", "service")
_PLAIN = (bool, int, float, type(None))


class _EventLine(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The JSON form of an event: ids first. Field names are what log queries are built on."""

    mail_id: str = ""
    job_id: str = ""
    event: str
    level: str
    timestamp: float
    service: str = ""
    recipients: tuple[str, ...] = ()
    destination: str = ""
    site: str = ""
    reply: str = ""
    reason: str = ""
    attempt: int = 0
    queue_seconds: float | None = None
    trace_id: str = ""
    sampled: int = 0


class _Sink:
    """Writes whole lines to a file descriptor (None: nowhere). Called from any thread."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._pending: list[bytes] = []

    def write(self, line: bytes) -> None:
        """Write `line` and a line feed, in one call, so that processes can share the descriptor."""
        self._write(line + b"\n")

    def write_soon(self, line: bytes) -> None:
        """Write it in the next turn of the loop that runs here, with others of this turn."""
        self._pending.append(line)
        if len(self._pending) == 1:
            try:
                asyncio.get_running_loop().call_soon(self._flush)
            except RuntimeError:  # no loop
                self._flush()

    def _flush(self) -> None:
        """Write whole lines, no more at a time than a pipe takes in one piece."""
        pending, self._pending = self._pending, []
        batch = b""
        for line in pending:
            if batch and len(batch) + len(line) >= select.PIPE_BUF:
                self._write(batch)
                batch = b""
            batch += line + b"\n"
        self._write(batch)

    def _write(self, rest: bytes) -> None:
        if self._descriptor is None:
            return
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            metrics.dropped_log_lines.inc(rest.count(b"\n"))

    debug = info = warning = error = critical = write
    """The methods that structlog calls with what the last processor returned."""


class _LibraryHandler(logging.Handler):
    """Passes what libraries log through the same door."""

    def emit(self, record: logging.LogRecord) -> None:
        get_logger().log(
            record.levelno, clip(record.getMessage()), logger=record.name, exc_info=record.exc_info
        )


_Write = Callable[[Event, str, int], None]
"""An event, the level of its line, and for how many it stands: 0 if all are written."""


class _Output:
    """How this process writes events: chosen by `configure_logging`."""

    write_event: Callable[[Event], None]
    write_detail: Callable[[Event], None]


def configure_logging(settings: LoggingSettings, service: str = "") -> None:
    """Set up the logs of this process, or change them; `service` is named in every line.

    Libraries' own loggers stay at warnings.
    """
    stream = sys.__stderr__  # None when the process was started without one
    terminal = stream is not None and stream.isatty()
    sink = _Sink(None if stream is None else stream.fileno())
    as_json = settings.format == "json" or (settings.format == "auto" and not terminal)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=_json_chain(service) if as_json else _console_chain(service, terminal),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_LibraryHandler()], force=True)
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    write = _direct(sink, service) if as_json else _through_structlog
    kept = sampling(settings.sampling.model_dump())
    _Output.write_event = _writing(write, "info", kept) if level <= logging.INFO else _drop
    _Output.write_detail = _writing(write, "debug", None) if level <= logging.DEBUG else _drop


def _writing(write: _Write, level: str, kept: Kept | None) -> Callable[[Event], None]:
    if kept is None:
        return lambda event: write(event, level, 0)

    def write_kept(event: Event) -> None:
        stands_for = kept(event.kind, event.mail_id)
        if stands_for:
            write(event, level, stands_for if stands_for > 1 else 0)

    return write_kept


def _json_chain(service: str) -> list[Any]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt=None),
        _name_service(service),
        structlog.processors.format_exc_info,
        _ids_first,
        _render_json,
    ]


def _console_chain(service: str, terminal: bool) -> list[Any]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f"),
        _name_service(service),
        # Not the renderer's own tracebacks: they show local variables, so message bodies.
        structlog.processors.format_exc_info,
        _escape_values,
        _ids_first,
        _console(terminal),
        lambda _logger, _name, text: text.encode("utf-8", "backslashreplace"),
    ]


def _console(terminal: bool) -> structlog.dev.ConsoleRenderer:
    """The library's columns behind those of the ids, which have no name."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=terminal, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
    )
    style = renderer.get_default_column_styles(terminal)
    plain = structlog.dev.KeyValueColumnFormatter(None, style.logger_name, style.reset, str)
    default, *rest = renderer.columns
    renderer.columns = [default, *(structlog.dev.Column(key, plain) for key in IDS), *rest]
    return renderer


def _ids_first(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    head = {key: event[key] for key in _HEAD if key in event}
    return head | {key: value for key, value in event.items() if key not in head}


def _name_service(service: str) -> structlog.typing.Processor:
    def add(
        _logger: object, _name: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        return {**event, "service": service} if service else event

    return add


def _escape_values(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    escaped = {
        key: escape(_as_text(value))
        for key, value in event.items()
        if not isinstance(value, _PLAIN)
    }
    if "exception" in escaped:
        escaped["exception"] = _escape_lines(event["exception"])
    return {**event, **escaped}


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return ",".join(map(str, value)) if isinstance(value, tuple) else repr(value)


def _escape_lines(text: str) -> str:
    return "\n".join(map(escape, text.split("\n")))


def _render_json(_logger: object, _name: str, event: MutableMapping[str, Any]) -> bytes:
    return to_json(event)


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """The process's logger; bind ids to it rather than formatting them into text."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


def clip(text: str) -> str:
    """Text from a peer, no longer than a log line may carry."""
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "..."


def log_event(event: Event) -> None:
    """Log one change of custody."""
    _Output.write_event(event)


def log_detail(event: Event) -> None:
    """Log, at the level of debugging, that a message moved from queue to queue and nothing else."""
    _Output.write_detail(event)


def log_parked(
    message_id: str, reason: str, detail: str, at: float, job: DeliveryJob | None = None
) -> None:
    """Log that a message went to the parking queue as it was; `job` is None if nobody can read it.

    Of a mail the id of the message is the mail's, of a job the job's.
    """
    if job is None:
        log_event(Event("parked", at, "", message_id, reason=reason, reply=detail))
        return
    recipients = tuple([recipient.address for recipient in job.recipients])
    log_event(
        Event(
            kind="parked",
            at=at,
            mail_id=job.mail_id,
            job_id=job.id,
            recipients=recipients,
            destination=job.destination,
            site=job.site,
            reply=detail,
            reason=reason,
            attempt=job.attempt,
            queue_seconds=at - job.accepted_at,
            trace_id=job.trace_id,
        )
    )


def _direct(sink: _Sink, service: str) -> _Write:
    """Events past structlog: the same line for a third of the time, once or more a message."""

    def write(event: Event, level: str, sampled: int) -> None:
        sink.write_soon(to_json(_event_line(event, service, level, sampled)))

    return write


def _event_line(event: Event, service: str, level: str, sampled: int) -> _EventLine:
    return _EventLine(
        mail_id=event.mail_id,
        job_id=event.job_id,
        event=event.kind,
        level=level,
        timestamp=event.at,
        service=service,
        recipients=event.recipients,
        destination=event.destination,
        site=event.site,
        reply=clip(event.reply),
        reason=clip(event.reason),
        attempt=event.attempt,
        queue_seconds=event.queue_seconds or None,
        trace_id=event.trace_id,
        sampled=sampled,
    )


def _through_structlog(event: Event, level: str, sampled: int) -> None:
    fields = msgspec.structs.asdict(event) | {"sampled": sampled}
    kind = fields.pop("kind")
    del fields["schema"], fields["at"]
    fields |= {"reply": clip(event.reply), "reason": clip(event.reason)}
    told = {name: value for name, value in fields.items() if value}
    getattr(get_logger(), level)(kind, **told)


def _drop(_event: Event) -> None:
    """The level is above that of events."""


_Output.write_event = _writing(_through_structlog, "info", None)
_Output.write_detail = _drop
