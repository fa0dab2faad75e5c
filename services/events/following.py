"""`postroad events` and `postroad message`: shows events on a terminal, or as lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass

from rich.console import Console

from services.events.errors import StoreError
from services.events.keeping import store_path
from services.events.showing import line_of, story_of
from services.events.store import StoredEvents, order
from shared.broker.connect import connect_events, connect_reader
from shared.broker.interface import Delivery, Unavailable
from shared.broker.topology import GUARANTEED_EVENTS
from shared.events.codec import EventError, decode_event, encode_event, lines_of, pattern
from shared.events.model import KINDS, MailEvent
from shared.logs import configure_logging
from shared.settings.load import ConfigError
from shared.settings.model import LoggingSettings, LogLevel, Settings

CONNECT_SECONDS = 10.0
HELD_SECONDS = 0.1
"""Of several services each tells in its time: what comes so close together is put in order."""
PREFETCH = 100
SILENCE_SECONDS = 2.0
"""After which no more guaranteed events wait."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events to show; what is empty wants all."""

    kinds: Collection[str] = ()
    tenant: str = ""
    mail_id: str = ""

    def __post_init__(self) -> None:
        """Raises `ConfigError` for a kind that is none."""
        for kind in self.kinds:
            if kind not in KINDS:
                raise ConfigError(f"--event: {kind} is none of {', '.join(KINDS)}")

    def patterns(self) -> list[str]:
        """For the exchange; the id is not in routing keys."""
        return [pattern(kind, self.tenant) for kind in self.kinds or ("",)]

    def __contains__(self, event: MailEvent) -> bool:
        return (
            (not self.kinds or event.event in self.kinds)
            and self.tenant in ("", event.tenant)
            and self.mail_id in ("", event.mail_id)
        )


class Display:
    """Writes events to standard output: JSON lines, or in colour where that is a terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True)

    def show(self, event: MailEvent) -> None:
        """One line, out at once. Raises BrokenPipeError when nobody reads any more."""
        if self._as_json:
            sys.stdout.write(encode_event(event).decode() + "\n")
        else:
            self._console.print(line_of(event))
        sys.stdout.flush()

    def story(self, events: list[MailEvent]) -> None:
        """All of one mail."""
        if self._as_json:
            for event in events:
                self.show(event)
            return
        for line in story_of(events):
            self._console.print(line)


def show_kept(settings: Settings, wanted: Wanted, count: int, *, as_json: bool) -> int:
    """The last events that were kept. Returns the exit code. Raises `ConfigError`."""
    path = store_path(settings)
    try:
        with StoredEvents(path) as stored:
            events = stored.story(wanted.mail_id) if wanted.mail_id else stored.latest(count)
    except StoreError as error:
        print(f"postroad: events.store.path: {error}", file=sys.stderr)
        return 1
    display = Display(as_json=as_json)
    return _until_broken(lambda: _show_all(display, [one for one in events if one in wanted]))


def _show_all(display: Display, events: Iterable[MailEvent]) -> None:
    for event in events:
        display.show(event)


def show_message(settings: Settings, mail_id: str, *, as_json: bool) -> int:
    """What became of one mail. Returns the exit code: 1 when nothing is known of it.

    Raises `ConfigError`.
    """
    path = store_path(settings)
    try:
        with StoredEvents(path) as stored:
            events = stored.story(mail_id) or stored.story(mail_id.upper())
    except StoreError as error:
        print(f"postroad: events.store.path: {error}", file=sys.stderr)
        return 1
    if not events:
        print(
            f"postroad: {mail_id!a}: no event of it in {path}. It is not known here, or so old "
            "that its events are gone (events.store.max_age, max_events).",
            file=sys.stderr,
        )
        return 1
    return _until_broken(lambda: Display(as_json=as_json).story(events))


def _until_broken(show: Callable[[], None]) -> int:
    try:
        show()
    except BrokenPipeError:
        _forget_output()
    return 0


def _forget_output() -> None:
    """Nobody reads it any more; the interpreter shall not find that out at its end."""
    sys.stdout = None


def follow_events(settings: Settings, wanted: Wanted, *, as_json: bool) -> int:
    """Show events as they happen, until SIGINT or SIGTERM. Returns the exit code."""
    configure_logging(LoggingSettings(level=LogLevel.WARNING, format=settings.logging.format))
    display = Display(as_json=as_json)
    return asyncio.run(_until_told(lambda stop: _follow(settings, wanted, display, stop)))


async def _until_told(work: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await work(stop)


async def _follow(settings: Settings, wanted: Wanted, display: Display, stop: asyncio.Event) -> int:
    line = connect_events(settings, "events")
    held: list[MailEvent] = []

    def hold(body: bytes) -> None:
        held.extend(event for event in _events(body) if event in wanted)

    line.follow(wanted.patterns(), hold)
    try:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), HELD_SECONDS)
            _show_all(display, sorted(held, key=order))
            held.clear()
    except BrokenPipeError:
        _forget_output()
    finally:
        await line.close()
    return 0


def _events(body: bytes) -> Iterable[MailEvent]:
    for line in lines_of(body):
        try:
            yield decode_event(line)
        except EventError as error:
            print(f"postroad: an event that cannot be read: {error}", file=sys.stderr)


def take_guaranteed(settings: Settings, *, follow: bool) -> int:
    """Write guaranteed events as lines of JSON, and take each out of its queue once it is written.

    Ends when there are no more, or with `follow` on SIGINT or SIGTERM. Returns the exit code.
    """
    configure_logging(LoggingSettings(level=LogLevel.WARNING, format=settings.logging.format))
    try:
        return asyncio.run(_until_told(lambda stop: _take(settings, stop, follow=follow)))
    except Unavailable as error:
        print(f"postroad: the broker cannot be used: {error}", file=sys.stderr)
        return 1


async def _take(settings: Settings, stop: asyncio.Event, *, follow: bool) -> int:
    arrived: asyncio.Queue[Delivery] = asyncio.Queue()
    broker = connect_reader(settings, "events")
    await broker.start()
    try:
        await broker.wait_usable(CONNECT_SECONDS)
        broker.consume(GUARANTEED_EVENTS, PREFETCH, arrived.put_nowait)
        ended = asyncio.create_task(stop.wait())
        while not stop.is_set():
            coming = asyncio.create_task(arrived.get())
            await asyncio.wait(
                [coming, ended],
                timeout=None if follow else SILENCE_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not coming.done():
                coming.cancel()
                break
            _write(coming.result())
        ended.cancel()
    except BrokenPipeError:
        _forget_output()
    finally:
        await broker.close()
    return 0


def _write(delivery: Delivery) -> None:
    sys.stdout.write(delivery.body.decode(errors="backslashreplace") + "\n")
    sys.stdout.flush()
    # custody: who reads our output has the event.
    delivery.ack()
