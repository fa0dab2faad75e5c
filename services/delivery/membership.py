"""Which partitions this worker serves (pure): fed with what it hears and a clock, it decides.

With heartbeats of length H it holds that

- a worker is dead after 2.5 H of silence, but never because we are deaf: the broker says that it
  lets nothing through, or our own announcements do not come back. Then nobody is dead, and
  nothing is taken or moved;
- who comes, or was deaf, is joining: from the moment it hears itself it listens for 1.25 H
  before it takes anything, and its claims give way to those of others until then;
- a partition is given up only to one who may take it at once, and taken only when nobody who
  lives claims it. So two claim one only if they did not hear each other: the first word that
  gets through ends it, and meanwhile the broker serves its queues to one of them;
- who comes while the broker lets nothing through stands by for everything after 3 H: in an alarm
  its consumers may be what ends it, and the broker serves no queue to two. Its claims give way;
- who was silent for 2.5 H, since it was stopped or starved, gives all up as the first thing it
  does: others count it dead. After 1.5 H it is joining again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from math import inf

from services.delivery.actions import Action, Announce, Died, GiveUp, Heed, Take, Why
from services.delivery.assignment import assign, settle
from services.delivery.hearing import Hearing
from services.delivery.heartbeats import Heartbeat
from services.delivery.holding import Partition, Trace
from services.delivery.peers import DEAD_AFTER, Peers

LATE = 1.5
"""Heartbeats of silence after which others may count us dead, if one heartbeat was lost as well."""
LISTENING = 1.25
"""Heartbeats for which a newcomer listens: each other one speaks at least once in that time."""
STAND_BY = 3
"""Heartbeats for which a newcomer waits to hear anything."""
REPEATED = 4
"""What changed is said again after this part of a heartbeat, for those who missed it."""
PAUSES = 20
"""At most so many announcements are made in the time of one heartbeat."""


class _Phase(Enum):
    JOINING = auto()
    SERVING = auto()
    LEAVING = auto()


class Membership:
    """One worker among those of its lanes.

    `lanes` has the number of partitions of each; `heartbeat` and all times are in seconds. Every
    call returns what to do now, in order; then `wake_at` is when `wake` is due.
    """

    def __init__(self, worker: str, lanes: Mapping[str, int], heartbeat: float, now: float) -> None:
        self.worker = worker
        self.wake_at = now
        self._lanes = dict(lanes)
        self._beat = heartbeat
        self._peers = Peers(heartbeat)
        self._hearing = Hearing(self.pause, now)
        self._phase = _Phase.JOINING
        self._joined_after = 0
        self._listening = inf
        self._claims: set[Partition] = set()
        self._giving: set[Partition] = set()
        self._now = self._announced = self._heard = now
        self._greeted = -inf
        self._sequence = 0
        self._due_soon = True
        self._unsettled = True
        self._heeded: tuple[Trace, ...] = ()
        self._told: frozenset[Partition] = frozenset()
        self._repeat = False
        self._stuck: set[str] = set()

    @property
    def claims(self) -> frozenset[Partition]:
        """What it serves, or has not quite given up yet."""
        return frozenset(self._claims)

    @property
    def pause(self) -> float:
        """Seconds between two announcements at least."""
        return self._beat / PAUSES

    def members(self, lane: str) -> int:
        """How many workers serve this lane, as far as it knows."""
        return sum(lane in word.lanes and not word.leaving for word in self._words().values())

    def hear(self, word: Heartbeat, now: float) -> Sequence[Action]:
        """An announcement came in; our own do as well."""
        actions = self._goes_on(now, self._hearing.open)
        if word.worker == self.worker:
            self._hear_itself(word.sequence)
        else:
            self._unsettled |= self._peers.hear(word, self._hearing.clock, now)
            self._peers.learn(word.losses, now)
            self._due_soon |= word.hello
        return self._conclude(actions)

    def wake(self, now: float, *, hearing: bool) -> Sequence[Action]:
        """Time went by. `hearing`: whether the broker lets announcements through."""
        return self._conclude(self._goes_on(now, hearing))

    def given_up(self, partition: Partition, now: float) -> Sequence[Action]:
        """This one is no longer served here: the next worker may take it."""
        actions = self._goes_on(now, self._hearing.open)
        self._giving.discard(partition)
        self._claims.discard(partition)
        self._unsettled = self._due_soon = True
        return self._conclude(actions)

    def leave(self, now: float) -> Sequence[Action]:
        """Take nothing more and give everything up. Announcements go on."""
        actions = self._goes_on(now, self._hearing.open)
        self._phase = _Phase.LEAVING
        self._due_soon = True
        return self._conclude([*actions, *self._give_up(self._claims, Why.LEAVING)])

    def farewell(self, now: float) -> Announce:
        """The last word, when all is given up and nothing is open any more; to be said twice."""
        self._now = now
        return self._announce()

    def _goes_on(self, now: float, hearing: bool) -> list[Action]:
        actions: list[Action] = []
        opened = self._hearing.goes_on(now, self.wake_at, open=hearing)
        self._now = now
        silence = now - self._announced
        deafness = self._hearing.clock - self._hearing.proof
        if silence > DEAD_AFTER * self._beat:
            actions += self._give_up(self._claims, Why.LOST)
        if opened or silence > LATE * self._beat or deafness > DEAD_AFTER * self._beat:
            self._join()
        if not hearing:
            self._announced = now
            actions += self._stand_by()
        else:
            self._heard = now
        return actions

    def _stand_by(self) -> list[Action]:
        deaf = self._now - self._heard >= STAND_BY * self._beat
        if not deaf or self._claims or self._phase is not _Phase.JOINING:
            return []
        everything = {
            Partition(lane, n) for lane, count in self._lanes.items() for n in range(count)
        }
        return self._take(everything, fresh=False)

    def _join(self) -> None:
        waiting = self._phase is _Phase.JOINING and self._listening == inf
        if waiting or self._phase is _Phase.LEAVING:
            return
        self._phase = _Phase.JOINING
        self._joined_after = self._sequence
        self._listening = inf
        self._due_soon = True

    def _hear_itself(self, sequence: int) -> None:
        self._hearing.hears_itself(sequence)
        waiting = self._phase is _Phase.JOINING and self._listening == inf
        if waiting and sequence > self._joined_after:
            self._listening = self._hearing.clock
            self._peers.renew(self._hearing.clock)

    def _conclude(self, actions: list[Action]) -> Sequence[Action]:
        if self._hearing.open:
            actions += self._bury()
            self._begin_to_serve()
            if self._unsettled and (self._claims or self._phase is _Phase.SERVING):
                actions += self._rearrange()
            actions += self._heed()
            if self._now >= self._next_announcement():
                actions.append(self._announce())
        self.wake_at = self._next_wake()
        return actions

    def _bury(self) -> list[Action]:
        dead = self._peers.bury(self._hearing.clock, self._hearing.proof, self._now)
        stuck = self._peers.stuck(self._hearing.clock)
        self._unsettled |= bool(dead) or stuck != self._stuck
        self._stuck = stuck
        # Silent, and perhaps it is we who hear nothing: say something that should come back.
        self._due_soon |= self._peers.next_silence() <= self._hearing.clock
        return [Died(worker) for worker in dead]

    def _begin_to_serve(self) -> None:
        listened = self._hearing.clock - self._listening
        if self._phase is _Phase.JOINING and listened >= LISTENING * self._beat:
            self._phase = _Phase.SERVING
            self._due_soon = self._unsettled = True

    def _rearrange(self) -> list[Action]:
        self._unsettled = False
        words = self._words()
        weak = {worker for worker, word in words.items() if word.joining or word.leaving}
        holders = settle({worker: word.partitions for worker, word in words.items()}, weak)
        kept = {partition for partition in self._claims if holders[partition] == self.worker}
        actions = self._give_up(self._claims - kept, Why.LOST)
        if self._phase is _Phase.SERVING:
            for target in self._targets(words, holders):
                moving = {p for p in kept & target.keys() if target[p] not in {self.worker, *weak}}
                actions += self._give_up(moving, Why.MOVED)
                actions += self._take(
                    p for p in target if target[p] == self.worker and p not in holders
                )
        return actions

    def _targets(
        self, words: Mapping[str, Heartbeat], holders: Mapping[Partition, str]
    ) -> Iterator[dict[Partition, str]]:
        """Who should serve what, of each lane, among those that know the same partitions of it."""
        absent = self._stuck | {worker for worker, word in words.items() if word.leaving}
        for lane, count in self._lanes.items():
            workers = {worker for worker, word in words.items() if word.lanes.get(lane) == count}
            partitions = [Partition(lane, number) for number in range(count)]
            yield assign(partitions, workers - absent, holders)

    def _take(self, partitions: Iterable[Partition], *, fresh: bool = True) -> list[Action]:
        taken = sorted(partitions)
        self._claims.update(taken)
        self._due_soon |= bool(taken)
        return [
            Take(
                partition,
                fresh and not self._peers.lost(partition, self._now),
                self._peers.bequest(partition, self._now),
            )
            for partition in taken
        ]

    def _give_up(self, partitions: Collection[Partition], why: Why) -> list[Action]:
        begun = sorted(set(partitions) - self._giving)
        self._giving.update(begun)
        return [GiveUp(partition, why) for partition in begun]

    def _heed(self) -> list[Action]:
        traces = self._peers.traces(self._claims, self._now)
        if traces == self._heeded:
            return []
        self._heeded = traces
        return [Heed(traces)]

    def _announce(self) -> Announce:
        self._announced = self._now
        self._sequence += 1
        self._hearing.says(self._sequence)
        self._due_soon = False
        self._unsettled = True
        self._repeat = self._told != self._claims
        self._told = self.claims
        hello = self._phase is _Phase.JOINING and self._now >= self._greeted + self._beat / 2
        if hello:
            self._greeted = self._now
        return Announce(self._word(hello=hello))

    def _next_announcement(self) -> float:
        if self._due_soon:
            return self._announced + self.pause
        if self._repeat:
            return self._announced + self._beat / REPEATED
        return self._announced + (self._beat / 2 if self._phase is _Phase.JOINING else self._beat)

    def _next_wake(self) -> float:
        if not self._hearing.open:
            return self._now + self._beat / 4
        clocks = (
            self._peers.next_silence(),
            self._peers.next_stuck(self._hearing.clock),
            self._listening + LISTENING * self._beat,
        )
        waits = [clock - self._hearing.clock for clock in clocks if clock > self._hearing.clock]
        return min([self._next_announcement(), *(self._now + wait for wait in waits)])

    def _words(self) -> dict[str, Heartbeat]:
        return {**self._peers.living, self.worker: self._word()}

    def _word(self, *, hello: bool = False) -> Heartbeat:
        claims: dict[str, tuple[int, ...]] = {}
        for lane, number in sorted(self._claims):
            claims[lane] = (*claims.get(lane, ()), number)
        return Heartbeat(
            self.worker,
            self._sequence,
            round(self._beat * 1000),
            self._lanes,
            claims,
            losses=self._peers.losses(self._now),
            joining=self._phase is _Phase.JOINING,
            leaving=self._phase is _Phase.LEAVING,
            hello=hello,
        )
