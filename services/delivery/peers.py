"""What one worker knows of the others (pure): their last words, who is silent, what was lost.

`clock` counts the seconds in which this worker was awake (see `hearing`), `now` counts all seconds.
Neither is read here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from math import inf

from services.delivery.heartbeats import Heartbeat, Loss
from services.delivery.holding import SLOT_SECONDS, Partition, Trace
from services.delivery.leftovers import merged

MEMORY = 60.0
"""Seconds for which the end of a silent worker matters: limits look back a minute."""

DEAD_AFTER = 2.5
"""Heartbeats of silence after which a worker is dead."""
PROOF_AFTER = 1.5
"""Heartbeats after its last word we must have said something that came back to us, for the silence
to prove anything: what makes us deaf does so within one heartbeat of it.
"""
PATIENCE = 2
"""Heartbeats for which partitions are kept for one that is joining; it should take one."""


@dataclass(slots=True)
class _Peer:
    word: Heartbeat
    heard: float
    at: float
    beat: float
    joining_since: float = inf
    died: float = inf


class Peers:
    """The other workers. `heartbeat` is ours, in seconds; that of another may be longer."""

    def __init__(self, heartbeat: float) -> None:
        self._beat = heartbeat
        self._living: dict[str, _Peer] = {}
        self._dead: dict[str, _Peer] = {}
        self._losses: dict[Partition, float] = {}

    @property
    def living(self) -> dict[str, Heartbeat]:
        """The last word of each who is not dead."""
        return {name: peer.word for name, peer in self._living.items()}

    def hear(self, word: Heartbeat, clock: float, now: float) -> bool:
        """Whether it changes who should serve what. Words that come late or twice do not count."""
        known = self._living.get(word.worker) or self._dead.get(word.worker)
        if known is not None and known.word.sequence >= word.sequence:
            return False
        self._dead.pop(word.worker, None)
        since = clock if word.joining else inf
        if known is not None and word.joining:
            since = min(since, known.joining_since)
        self._living[word.worker] = _Peer(
            word, clock, now, max(self._beat, word.period_ms / 1000), since
        )
        return known is None or not word.stands_like(known.word)

    def bury(self, clock: float, proof: float, now: float) -> list[str]:
        """Those that died, as is found now; what we said at `proof` came back to us."""
        silent = [
            name
            for name, peer in self._living.items()
            if clock >= peer.heard + DEAD_AFTER * peer.beat
            and proof >= peer.heard + PROOF_AFTER * peer.beat
        ]
        return [name for name in silent if not self._bury(name, now)]

    def _bury(self, name: str, now: float) -> bool:
        """Whether it had left in good order: then it told everything."""
        peer = self._dead[name] = self._living.pop(name)
        peer.died = now
        if peer.word.leaving and not peer.word.claims:
            return True
        self._losses |= dict.fromkeys(peer.word.partitions, now)
        return False

    def stuck(self, clock: float) -> set[str]:
        """Those that have been joining for so long that nobody should wait for them."""
        return {
            name
            for name, peer in self._living.items()
            if clock >= peer.joining_since + PATIENCE * peer.beat
        }

    def next_stuck(self, clock: float) -> float:
        """The clock when nobody should wait for the next one that is joining."""
        ends = (peer.joining_since + PATIENCE * peer.beat for peer in self._living.values())
        return min((end for end in ends if end > clock), default=inf)

    def next_silence(self) -> float:
        """The clock when the next one may be dead."""
        return min(
            (peer.heard + DEAD_AFTER * peer.beat for peer in self._living.values()), default=inf
        )

    def renew(self, clock: float) -> None:
        """We may have been deaf: each has its full time anew."""
        for peer in self._living.values():
            peer.heard = clock

    def traces(self, partitions: Collection[Partition], now: float) -> tuple[Trace, ...]:
        """What others still have open of these; of the dead, what they said last."""
        return merged(trace for _, trace in self._traces(partitions, now))

    def bequest(self, partition: Partition, now: float) -> tuple[Trace, ...]:
        """What others did there that the next owner should know.

        Who spoke before the partition was lost does not know what the lost one did since.
        """
        lost = self._losses.get(partition, -inf)
        return merged(trace for at, trace in self._traces({partition}, now) if at > lost)

    def _traces(
        self, partitions: Collection[Partition], now: float
    ) -> Iterator[tuple[float, Trace]]:
        self._dead = {name: peer for name, peer in self._dead.items() if now - peer.died < MEMORY}
        for peer in (*self._living.values(), *self._dead.values()):
            for trace in peer.word.remains:
                if (trace.lane, trace.number) in partitions:
                    yield peer.at, trace

    def learn(self, losses: Iterable[Loss], now: float) -> None:
        """What another knows, and we perhaps not. What we know already does not become younger."""
        for loss in losses:
            partition = Partition(loss.lane, loss.number)
            at = now - loss.age_ms / 1000
            if at > self._losses.get(partition, -inf) + SLOT_SECONDS:
                self._losses[partition] = at

    def losses(self, now: float) -> tuple[Loss, ...]:
        """What was lost within the last minute."""
        self._losses = {p: at for p, at in self._losses.items() if now - at < MEMORY}
        return tuple(
            Loss(partition.lane, partition.number, max(0, round((now - at) * 1000)))
            for partition, at in self._losses.items()
        )

    def lost(self, partition: Partition, now: float) -> bool:
        """Whether somebody fell silent within the last minute who served it."""
        return now - self._losses.get(partition, -inf) < MEMORY
