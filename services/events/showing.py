"""How events look on a terminal (pure). Text of strangers can neither break a line nor drive it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo

from rich.text import Text

from shared.events.model import Hop, MailEvent
from shared.log_text import escape
from shared.settings.units import format_duration

COLOURS = {
    "accepted": "cyan",
    "routed": "blue",
    "attempted": "bright_black",
    "delivered": "green",
    "deferred": "yellow",
    "uncertain": "magenta",
    "bounced": "red",
    "expired": "red",
    "parked": "bold red",
    "throttled": "yellow",
}
WIDEST = max(map(len, COLOURS))
MOST_NAMED = 3
"""Recipients of one event that are named in a line."""


def line_of(event: MailEvent, zone: tzinfo | None = None, *, named: bool = True) -> Text:
    """One line: when, what, which mail (if `named`), whose, to whom, with whom, and the reply."""
    colour = COLOURS.get(event.event, "white")
    line = Text(no_wrap=True).append(_clock(event.at, zone), "bright_black")
    line.append(f"  {escape(event.event):<{WIDEST}}", colour)
    if named:
        line.append(f"  {escape(event.mail_id)}", "bold")
        line.append(f"  {escape(event.tenant)}/{escape(event.class_)}", "bright_black")
    for text, style in _facts(event):
        line.append("  ")
        line.append(escape(text), style)
    return line


def story_of(events: Sequence[MailEvent], zone: tzinfo | None = None) -> list[Text]:
    """What became of one mail: a heading, and a line for each event, with the time since the first.

    `events` are in the order of time; there is one at least.
    """
    first = events[0]
    heading = Text(no_wrap=True).append(escape(first.mail_id), "bold")
    heading.append(f"  {_date(first.at, zone)}", "bright_black")
    heading.append(f"  tenant {escape(first.tenant)}, {escape(first.class_)}", "none")
    if first.event == "accepted":
        heading.append(f"  from <{escape(first.reverse_path)}>, {first.octets} octets", "none")
    lines = [heading]
    for event in events:
        since = f"+{event.at - first.at:.3f} s"
        line = Text(no_wrap=True).append(f"{since:>14}  ", "bright_black")
        line.append_text(line_of(event, zone, named=False))
        lines.append(line)
    return lines


def _clock(at: float, zone: tzinfo | None) -> str:
    return _moment(at, zone, lambda when: when.strftime("%H:%M:%S.") + f"{when.microsecond:06}"[:3])


def _date(at: float, zone: tzinfo | None) -> str:
    return _moment(at, zone, lambda when: when.strftime("%Y-%m-%d %H:%M:%S %Z"))


def _moment(at: float, zone: tzinfo | None, written: Callable[[datetime], str]) -> str:
    try:
        return written(datetime.fromtimestamp(at, UTC).astimezone(zone))
    except (ValueError, OverflowError, OSError):
        return "?"


def _facts(event: MailEvent) -> list[tuple[str, str]]:
    facts = [(_people(event.recipients), "none")]
    if event.outcomes:
        facts.append((", ".join(f"{n} {kind}" for kind, n in event.outcomes.items()), "none"))
    if event.attempt:
        facts.append((f"attempt {event.attempt}", "none"))
    if event.event == "routed":
        facts.append((f"to {event.destination} in lane {event.lane}", "none"))
    if event.hop is not None:
        facts.append((_hop(event.hop), "cyan"))
    elif event.tls is not None:
        facts.append((event.tls.version, "cyan"))
    if event.reason:
        facts.append((event.reason, "yellow"))
    facts.append((event.reply, "none"))
    if event.attempt_seconds:
        facts.append((f"took {event.attempt_seconds:.3f} s", "bright_black"))
    if event.delay_seconds:
        again = format_duration(round(event.delay_seconds * 1000))
        facts.append((f"again in {again}", "yellow"))
    if event.notification:
        facts.append((f"sender is told by {event.notification}", "magenta"))
    return [(text, style) for text, style in facts if text]


def _people(recipients: Sequence[str]) -> str:
    named = ", ".join(f"<{one}>" for one in recipients[:MOST_NAMED])
    more = len(recipients) - MOST_NAMED
    return f"{named} and {more} more" if more > 0 else named


def _hop(hop: Hop) -> str:
    where = f"{hop.host} [{hop.address}]:{hop.port}"
    return f"{where} {hop.tls.version}" if hop.tls is not None else f"{where} in clear text"
