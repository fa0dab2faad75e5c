"""Several `Membership`s on a channel that loses, delays, repeats and reorders, in simulated time.

    swarm = Swarm(random.Random(7), {"bulk": 8})
    swarm.join()
    swarm.run(3.0)

Time is counted in heartbeats. The channel never loses two words in a row from one worker to the
same other (`lossy=False`: none at all). The swarm notes for each partition for how long nobody,
and for how long more than one, claimed it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from services.delivery.actions import Action, Announce, Died, GiveUp, Heed, Take, Why
from services.delivery.heartbeats import Heartbeat, decode, encode
from services.delivery.holding import Partition, Trace
from services.delivery.membership import Membership

LONGEST_DELAY = 0.1
LONGEST_GIVE_UP = 0.2
ONE_MESSAGE = 1 / 20 + 2 * LONGEST_DELAY
"""Heartbeats until a change is known to all, if nothing is lost."""


@dataclass
class Worker:
    """One worker of the swarm, and what became of it."""

    membership: Membership
    alive: bool = True
    leaving: bool = False
    paused: bool = False
    deaf: bool = False
    hearing: bool = True
    traces: tuple[Trace, ...] = ()
    waiting: list[Callable[[], None]] = field(default_factory=list)
    """What happens when it goes on after a pause."""
    taken: list[Take] = field(default_factory=list)
    given_up: list[tuple[float, Partition, Why]] = field(default_factory=list)
    heeded: tuple[Trace, ...] = ()
    announced: int = 0

    @property
    def claims(self) -> frozenset[Partition]:
        """What it believes to serve."""
        return self.membership.claims if self.alive else frozenset()


class Swarm:
    """Workers of the same lanes."""

    def __init__(self, rng: random.Random, lanes: Mapping[str, int], *, lossy: bool = True) -> None:
        self.now = 0.0
        self.workers: list[Worker] = []
        self.died: list[str] = []
        """Each time that one found another dead."""
        self.mute: set[str] = set()
        """Names of those that can speak and hear nothing."""
        self.changed_at = 0.0
        self.unowned: dict[Partition, float] = {}
        """Since when nobody has it."""
        self.longest_unowned = 0.0
        """In heartbeats, counted anew from each change of who is there."""
        self.shared: dict[Partition, float] = {}
        self.longest_shared = 0.0
        self._lanes = dict(lanes)
        self._lossy = lossy
        self._rng = rng
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._lost: set[tuple[str, str]] = set()

    @property
    def partitions(self) -> list[Partition]:
        """All there are."""
        return [Partition(lane, n) for lane, count in self._lanes.items() for n in range(count)]

    @property
    def living(self) -> list[Worker]:
        """Those that run."""
        return [worker for worker in self.workers if worker.alive]

    def owners(self, partition: Partition) -> list[Worker]:
        """Those that claim it and are not stopped."""
        return [w for w in self.living if partition in w.claims and not w.paused]

    def join(self, lanes: Mapping[str, int] | None = None, heartbeat: float = 1.0) -> Worker:
        """A new worker comes."""
        name = f"w{len(self.workers)}-{self._rng.randrange(10**6)}"
        worker = Worker(Membership(name, lanes or self._lanes, heartbeat, self.now))
        self.workers.append(worker)
        self._change()
        self._schedule_wake(worker)
        return worker

    def leave(self, worker: Worker) -> None:
        """SIGTERM: it leaves in order, and is gone when all is given up."""
        self._change()
        worker.leaving = True
        self._do(worker, worker.membership.leave(self.now))
        self._end_if_left(worker)

    def kill(self, worker: Worker) -> None:
        """SIGKILL."""
        worker.alive = False
        self._change()

    def pause(self, worker: Worker) -> None:
        """SIGSTOP."""
        worker.paused = True
        self._change()

    def resume(self, worker: Worker) -> None:
        """SIGCONT: the timer is first, then what came in meanwhile."""
        worker.paused = False
        self._change()
        waiting, worker.waiting = worker.waiting, []
        self._wake(worker, worker.membership.wake_at)
        for happen in waiting:
            happen()

    def deafen(self, worker: Worker, *, noticed: bool) -> None:
        """Nothing gets in or out; `noticed` by the broker's client."""
        worker.deaf, worker.hearing = True, not noticed
        self._change()

    def cure(self, worker: Worker) -> None:
        """The way is free again."""
        worker.deaf, worker.hearing = False, True
        self._change()

    def run(self, heartbeats: float) -> None:
        """Let time pass."""
        until = self.now + heartbeats
        while self._events and self._events[0][0] <= until:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
            self._look()
        self.now = until
        self._look()

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._order), happen))

    def _change(self) -> None:
        self._look()
        self.changed_at = self.now
        self._look()

    def _look(self) -> None:
        for partition in self.partitions:
            owners = len(self.owners(partition))
            if owners == 0 and self.living:
                since = max(self.unowned.setdefault(partition, self.now), self.changed_at)
                self.longest_unowned = max(self.longest_unowned, self.now - since)
            else:
                self.unowned.pop(partition, None)
            if owners > 1:
                since = max(self.shared.setdefault(partition, self.now), self.changed_at)
                self.longest_shared = max(self.longest_shared, self.now - since)
            else:
                self.shared.pop(partition, None)

    def _schedule_wake(self, worker: Worker) -> None:
        due = worker.membership.wake_at
        late = self._rng.uniform(0, 0.01)
        self._at(due + late, lambda: self._wake(worker, due))

    def _wake(self, worker: Worker, due: float) -> None:
        if worker.alive and not worker.paused and worker.membership.wake_at == due:
            self._do(worker, worker.membership.wake(self.now, hearing=worker.hearing))

    def _do(self, worker: Worker, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Take):
                worker.taken.append(action)
            elif isinstance(action, GiveUp):
                worker.given_up.append((self.now, action.partition, action.why))
                self._later_given_up(worker, action.partition)
            elif isinstance(action, Heed):
                worker.heeded = action.traces
            elif isinstance(action, Died):
                self.died.append(action.worker)
            elif isinstance(action, Announce):
                worker.announced += 1
                said = msgspec.structs.replace(action.heartbeat, remains=worker.traces)
                self._carry(worker, encode(said))
        self._schedule_wake(worker)

    def _later_given_up(self, worker: Worker, partition: Partition) -> None:
        def done() -> None:
            if worker.paused:
                worker.waiting.append(done)
            elif worker.alive:
                self._do(worker, worker.membership.given_up(partition, self.now))
                self._end_if_left(worker)

        self._at(self.now + self._rng.uniform(0, LONGEST_GIVE_UP), done)

    def _end_if_left(self, worker: Worker) -> None:
        if worker.leaving and not worker.claims:
            self._do(worker, [worker.membership.farewell(self.now)])
            worker.alive = False
            self._at(self.now + worker.membership.pause, partial(self._say_again, worker))

    def _say_again(self, worker: Worker) -> None:
        self._do(worker, [worker.membership.farewell(self.now)])

    def _carry(self, sender: Worker, body: bytes) -> None:
        for receiver in self.living:
            pair = (sender.membership.worker, receiver.membership.worker)
            cut = sender.deaf or receiver.deaf or receiver.membership.worker in self.mute
            if cut or self._loses(pair):
                continue
            for _ in range(self._rng.choice((1, 1, 1, 2))):
                self._deliver_later(receiver, body)

    def _loses(self, pair: tuple[str, str]) -> bool:
        if not self._lossy or pair in self._lost or self._rng.random() < 0.7:
            self._lost.discard(pair)
            return False
        self._lost.add(pair)
        return True

    def _deliver_later(self, receiver: Worker, body: bytes) -> None:
        word = decode(body)
        assert isinstance(word, Heartbeat)

        def arrive() -> None:
            if receiver.paused:
                receiver.waiting.append(arrive)
            elif receiver.alive:
                self._do(receiver, receiver.membership.hear(word, self.now))

        self._at(self.now + self._rng.uniform(0, LONGEST_DELAY), arrive)


def settled(swarm: Swarm) -> None:
    """Each partition is with one living worker, and shares differ by at most one."""
    for partition in swarm.partitions:
        assert len(swarm.owners(partition)) == 1, partition
    for lane in {partition.lane for partition in swarm.partitions}:
        shares = [sum(p.lane == lane for p in worker.claims) for worker in swarm.living]
        assert max(shares) - min(shares) <= 1


def swarm_of(count: int, *, lossy: bool = False, seed: int = 0, partitions: int = 8) -> Swarm:
    """So many workers that have come to rest, on one lane called `bulk`."""
    swarm = Swarm(random.Random(seed), {"bulk": partitions}, lossy=lossy)
    for _ in range(count):
        swarm.join()
    swarm.run(5)
    settled(swarm)
    swarm.longest_unowned = 0
    return swarm
