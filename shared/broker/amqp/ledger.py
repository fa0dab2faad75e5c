"""Which publishes wait for their confirm (pure): tags count 1, 2, 3, ... in publish order.

A confirm may settle many tags at once. An unroutable message is returned AND acknowledged, the
return first; so a return is noted by message id and queue, and the acknowledgement that follows
is a failure. The same id may be under way twice, when a message is delivered and forwarded again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Entry = TypeVar("Entry")
Key = tuple[str, str]
"""Message id and routing key: all that a return tells of its publish."""


class Settled(Generic[Entry]):
    """What one or more confirms have settled."""

    __slots__ = ("refused", "returned", "stored")

    def __init__(self) -> None:
        self.stored: list[Entry] = []
        self.refused: list[Entry] = []
        self.returned: list[Entry] = []

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.stored or self.refused or self.returned)


class Ledger(Generic[Entry]):
    """The publishes of one channel that are not confirmed yet."""

    def __init__(self) -> None:
        self._tag = 0
        self._waiting: OrderedDict[int, tuple[Key, Entry]] = OrderedDict()
        self._returned: Counter[Key] = Counter()
        self.settled: Settled[Entry] = Settled()

    def __len__(self) -> int:
        return len(self._waiting)

    def published(self, key: Key, entry: Entry) -> int:
        """Note a publish; returns its tag."""
        self._tag += 1
        self._waiting[self._tag] = (key, entry)
        return self._tag

    def returned(self, key: Key) -> None:
        """The broker found no queue for this message; its acknowledgement follows."""
        self._returned[key] += 1

    def acknowledged(self, tag: int, *, multiple: bool) -> None:
        """The broker has stored `tag`, or everything up to it, but for what it returned."""
        taken = self._take(tag, multiple=multiple)
        if not self._returned:
            self.settled.stored.extend(entry for _, entry in taken)
            return
        for key, entry in taken:
            (self.settled.returned if self._forget(key) else self.settled.stored).append(entry)

    def refused(self, tag: int, *, multiple: bool) -> None:
        """The broker has not stored `tag`, or anything up to it."""
        for key, entry in self._take(tag, multiple=multiple):
            self._forget(key)
            self.settled.refused.append(entry)

    def take_settled(self) -> Settled[Entry]:
        """What was settled since the last call."""
        settled, self.settled = self.settled, Settled()
        return settled

    def oldest(self) -> Entry | None:
        """The publish that has waited longest."""
        for _, entry in self._waiting.values():
            return entry
        return None

    def expire(self, is_late: Callable[[Entry], bool]) -> list[Entry]:
        """Give up the oldest publishes that are late; a confirm that comes yet settles nothing."""
        late = []
        while (entry := self.oldest()) is not None and is_late(entry):
            self._waiting.popitem(last=False)
            late.append(entry)
        return late

    def abandon(self) -> list[Entry]:
        """Everything that still waits: its outcome will never be known. Starts tags anew."""
        entries = [entry for _, entry in self._waiting.values()]
        self._waiting.clear()
        self._returned.clear()
        self._tag = 0
        return entries

    def _forget(self, key: Key) -> bool:
        times = self._returned[key]
        if times > 1:
            self._returned[key] = times - 1
        elif times:
            del self._returned[key]
        return times > 0

    def _take(self, tag: int, *, multiple: bool) -> list[tuple[Key, Entry]]:
        if not multiple:
            found = self._waiting.pop(tag, None)
            return [] if found is None else [found]
        taken = []
        while self._waiting and next(iter(self._waiting)) <= tag:
            taken.append(self._waiting.popitem(last=False)[1])
        return taken
