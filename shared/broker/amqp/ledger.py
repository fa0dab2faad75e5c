"""Which publishes wait for their confirm (pure): tags count 1, 2, 3, ... in publish order.

A confirm may settle many tags at once. An unroutable message is returned AND acknowledged, the
return first; so a return is noted by message id and the acknowledgement that follows is a
failure.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


@dataclass(slots=True)
class Settled(Generic[Entry]):
    """What one or more confirms have settled."""

    stored: list[Entry] = field(default_factory=list)
    refused: list[Entry] = field(default_factory=list)
    returned: list[Entry] = field(default_factory=list)


class Ledger(Generic[Entry]):
    """The publishes of one channel that are not confirmed yet."""

    def __init__(self) -> None:
        self._tag = 0
        self._waiting: OrderedDict[int, tuple[str, Entry]] = OrderedDict()
        self._returned: set[str] = set()
        self.settled: Settled[Entry] = Settled()

    def __len__(self) -> int:
        return len(self._waiting)

    def published(self, message_id: str, entry: Entry) -> int:
        """Note a publish; returns its tag."""
        self._tag += 1
        self._waiting[self._tag] = (message_id, entry)
        return self._tag

    def returned(self, message_id: str) -> None:
        """The broker found no queue for this message; its acknowledgement follows."""
        self._returned.add(message_id)

    def acknowledged(self, tag: int, *, multiple: bool) -> None:
        """The broker has stored `tag`, or everything up to it, but for what it returned."""
        for message_id, entry in self._take(tag, multiple=multiple):
            if message_id in self._returned:
                self._returned.discard(message_id)
                self.settled.returned.append(entry)
            else:
                self.settled.stored.append(entry)

    def refused(self, tag: int, *, multiple: bool) -> None:
        """The broker has not stored `tag`, or anything up to it."""
        for message_id, entry in self._take(tag, multiple=multiple):
            self._returned.discard(message_id)
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

    def abandon(self) -> list[Entry]:
        """Everything that still waits: its outcome will never be known. Starts tags anew."""
        entries = [entry for _, entry in self._waiting.values()]
        self._waiting.clear()
        self._returned.clear()
        self._tag = 0
        return entries

    def _take(self, tag: int, *, multiple: bool) -> list[tuple[str, Entry]]:
        if not multiple:
            found = self._waiting.pop(tag, None)
            return [] if found is None else [found]
        taken = []
        while self._waiting and next(iter(self._waiting)) <= tag:
            taken.append(self._waiting.popitem(last=False)[1])
        return taken
