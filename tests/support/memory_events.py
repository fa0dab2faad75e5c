"""What is told of the mail, in memory: to those who follow here, and kept for tests to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from shared.broker.interface import Told
from shared.events.codec import decode_event, lines_of
from shared.events.model import MailEvent


class MemoryListener:
    """See `shared.broker.interface.Listener`."""

    def __init__(self, handler: Callable[[bytes], None], listeners: list[MemoryListener]) -> None:
        self._handler = handler
        self._listeners = listeners
        listeners.append(self)

    def hear(self, body: bytes) -> None:
        if self in self._listeners:
            self._handler(body)

    async def stop(self) -> None:
        if self in self._listeners:
            self._listeners.remove(self)


@dataclass(slots=True)
class MemoryEvents:
    """See `shared.broker.interface.EventLine`: `told` keeps everything, `followed` is for tests."""

    told: list[Told] = field(default_factory=list)
    followed: bool = False
    away: bool = False
    _listeners: list[MemoryListener] = field(default_factory=list)

    @property
    def hearing(self) -> bool:
        return bool(self._listeners)

    def scatter(self, told: Sequence[Told]) -> bool:
        if self.away:
            return False
        self.told += told
        for _, body in told:
            for listener in tuple(self._listeners):
                listener.hear(body)
        return True

    def follow(
        self, patterns: Sequence[str], handler: Callable[[bytes], None], *, name: str = ""
    ) -> MemoryListener:
        return MemoryListener(handler, self._listeners)

    async def close(self) -> None:
        self._listeners.clear()

    def events(self) -> list[MailEvent]:
        """Everything that was told."""
        return [decode_event(line) for _, body in self.told for line in lines_of(body)]
