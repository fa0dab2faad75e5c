"""The consumers of one process: who may find a message, who stands by, and who is served.

A process may have hundreds; what happens for each message touches only those of its queue.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from shared.broker.embedded.fences import Fences
from shared.broker.embedded.records import Subscription
from shared.broker.topology import Topology


class Subscriptions:
    """Of one engine; used by its thread."""

    def __init__(self, topology: Topology, fences: Fences) -> None:
        self._topology = topology
        self._fences = fences
        self._by_queue: dict[str, list[Subscription]] = {}
        self._hungry: dict[Subscription, None] = {}
        self._standby: dict[Subscription, None] = {}

    def __iter__(self) -> Iterator[Subscription]:
        return chain.from_iterable(self._by_queue.values())

    def join(self, sub: Subscription) -> None:
        """Serve it; if its queue is single active only once it is admitted."""
        self._by_queue.setdefault(sub.queue, []).append(sub)
        queue = self._topology.find(sub.queue)
        if queue is not None and queue.single_active:
            self._standby[sub] = None
        else:
            self._hungry[sub] = None

    def admit(self) -> bool:
        """Serve those whose turn it is on a single active queue; whether there are any."""
        waiting = len(self._standby)
        for sub in tuple(self._standby):
            sub.fence = self._fences.take(sub.queue)
            if sub.fence is not None:
                del self._standby[sub]
                self._hungry[sub] = None
        return len(self._standby) < waiting

    def leave(self, sub: Subscription) -> bool:
        """Serve it no more; whether another process may be served instead."""
        here = self._by_queue.get(sub.queue, [])
        if sub not in here:
            return False
        here.remove(sub)
        if not here:
            del self._by_queue[sub.queue]
        self._standby.pop(sub, None)
        self._hungry.pop(sub, None)
        fenced = sub.fence is not None
        if sub.fence is not None:
            self._fences.give_up(sub.fence)
            sub.fence = None
        return fenced

    def consumed(self, queue: str) -> bool:
        """Whether somebody here consumes that queue."""
        return queue in self._by_queue

    def queues(self) -> Collection[str]:
        """All that somebody here consumes."""
        return self._by_queue.keys()

    def noticed(self, queues: Iterable[str]) -> None:
        """Messages may have become ready in `queues`."""
        for queue in queues:
            for sub in self._by_queue.get(queue, ()):
                if sub not in self._standby:
                    self._hungry[sub] = None

    def sated(self, sub: Subscription) -> None:
        """Its queue holds no more for now."""
        del self._hungry[sub]

    def hungry(self) -> Iterable[Subscription]:
        """Whose queue may hold a ready message that nobody looked for yet."""
        return tuple(self._hungry)

    def wanting(self) -> bool:
        """Whether one of them has room."""
        return any(sub.held < sub.prefetch for sub in self._hungry)

    def expecting(self) -> bool:
        """Whether anybody has room, or waits for a turn."""
        return any(sub.held < sub.prefetch for sub in self)
