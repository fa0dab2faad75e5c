"""Where events go: collected in a bounded buffer, and told in batches beside the mail.

Nothing here waits, raises, or is waited for. What the buffer cannot hold is dropped and counted.
Events of tenants that must not be lost go as messages of their own, which their makers publish with
what comes next for the mail (`Emitter.owed`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from shared import metrics
from shared.broker.interface import LONGEST_BODY, EventLine, Listener, Outgoing, Told
from shared.broker.topology import GUARANTEED_EVENTS
from shared.events.codec import count_lines, encode_event, routing_key
from shared.events.model import KINDS, MailEvent
from shared.settings.telling import EventSettings, Publish

FLUSH_SECONDS = 0.02
"""How long events are collected."""
LOOK_SECONDS = 0.25
"""How often it is looked whether somebody follows."""
LAST_SECONDS = 1.0
"""For what is left at the end."""
MOST_KEYS = 10_000

Key = tuple[str, str, str, str]

_made = {kind: metrics.events.labels(kind).inc for kind in KINDS}
_full = metrics.dropped_events.labels("full").inc
_long = metrics.dropped_events.labels("long").inc


class Emitter:
    """The events of one process. `wanted` tells whether ordinary ones are told at all now."""

    def __init__(self, settings: EventSettings, line: EventLine) -> None:
        self.wanted = settings.publish is Publish.ALWAYS
        self.guaranteed = frozenset(settings.guaranteed)
        self._line = line
        self._on_demand = settings.publish is Publish.DEMAND
        self._most = settings.buffer_bytes
        self._size = 0
        self._batch: list[Told] = []
        self._batch_size = 0
        self._lines: dict[Key, list[bytes]] = {}
        self._keys: dict[Key, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look whether somebody follows, where that matters."""
        if self._on_demand:
            self._look_around()

    def _look_around(self) -> None:
        self.wanted = self._line.followed
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(LOOK_SECONDS, self._look_around)

    def concerns(self, tenant: str) -> bool:
        """Whether an event of this tenant is to be made at all."""
        return self.wanted or tenant in self.guaranteed

    def owed(self, events: Sequence[MailEvent]) -> list[Outgoing]:
        """Of these, the messages that have to be stored with what comes next for the mail."""
        return [
            Outgoing(GUARANTEED_EVENTS, encode_event(event), event.id)
            for event in events
            if event.tenant in self.guaranteed
        ]

    def emit(self, events: Sequence[MailEvent]) -> None:
        """Tell of these: what they say has happened. Never waits, and never raises."""
        for event in events:
            _made[event.event]()
            if self.wanted:
                self._keep(event)

    def _keep(self, event: MailEvent) -> None:
        line = encode_event(event)
        size = len(line) + 1
        if size > LONGEST_BODY:
            _long()
            return
        if self._size + size > self._most:
            _full()
            return
        self._size += size
        key = (event.event, event.tenant, event.class_, event.provider)
        lines = self._lines.get(key)
        if lines is None:
            lines = self._lines[key] = []
        lines.append(line)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if not self._batch:
            # Made once, however often it is not taken.
            self._batch, self._batch_size = list(self._told()), self._size
            self._lines = {}
        if self._line.scatter(self._batch):
            self._size -= self._batch_size
            self._batch = []
        if self._batch or self._lines:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _told(self) -> Iterator[Told]:
        for key, lines in self._lines.items():
            routing = self._routing_key(key)
            start = size = 0
            for end, line in enumerate(lines):
                if size and size + len(line) + 1 > LONGEST_BODY:
                    yield routing, b"\n".join(lines[start:end])
                    start, size = end, 0
                size += len(line) + 1
            yield routing, b"\n".join(lines[start:])

    def _routing_key(self, key: Key) -> str:
        found = self._keys.get(key)
        if found is None:
            if len(self._keys) >= MOST_KEYS:
                self._keys.clear()
            found = self._keys[key] = routing_key(*key)
        return found

    async def stop(self) -> None:
        """Tell what is left, if it can be told soon."""
        if self._look is not None:
            self._look.cancel()
        try:
            async with asyncio.timeout(LAST_SECONDS):
                while self._lines or self._batch:  # noqa: ASYNC110 - at the end only
                    await asyncio.sleep(FLUSH_SECONDS)
        except TimeoutError:
            _full(sum(map(len, self._lines.values())) + count_lines(self._batch))
            self._lines, self._batch, self._size = {}, [], 0
        if self._timer is not None:
            self._timer.cancel()
        self.wanted = False


class Nowhere:
    """An `EventLine` on which nothing is told."""

    followed = hearing = False

    def scatter(self, told: Sequence[Told]) -> bool:
        """Nothing."""
        return False

    def follow(self, patterns: Sequence[str], handler: object, *, name: str = "") -> Listener:
        """Nobody can."""
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is open."""


def silent() -> Emitter:
    """An emitter that tells nobody."""
    return Emitter(EventSettings(publish=Publish.NEVER), Nowhere())
