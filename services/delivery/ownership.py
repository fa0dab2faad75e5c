"""Carries out what `membership` decides: announces, listens, and lets a `Holder` serve.

One for each delivery worker. All methods are called on the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from services.delivery.actions import Action, Announce, Died, GiveUp, Heed, Take
from services.delivery.heartbeats import decode, encode, with_remains
from services.delivery.holding import Holder, Trace
from services.delivery.leftovers import Leftovers
from services.delivery.membership import Membership
from shared import metrics
from shared.broker.interface import Broker, Listener
from shared.logs import get_logger


class Ownership:
    """`lanes` has the number of partitions of each that is served here; `heartbeat` in seconds."""

    def __init__(
        self,
        worker: str,
        lanes: Mapping[str, int],
        heartbeat: float,
        broker: Broker,
        holder: Holder,
    ) -> None:
        self._lanes = dict(lanes)
        self._broker = broker
        self._holder = holder
        self._loop = asyncio.get_running_loop()
        self._membership = Membership(worker, lanes, heartbeat, self._loop.time())
        self._leftovers = Leftovers()
        self._handing_over: set[asyncio.Task[None]] = set()
        self._listener: Listener | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Join. What is ours is taken when we know the others, a heartbeat later at the soonest."""
        for lane, count in self._lanes.items():
            for number in range(count):
                metrics.partition_owned.labels(lane, number).set(0)
        self._listener = self._broker.listen(self._hear)
        self._wake()

    async def drain(self) -> None:
        """Give everything up, in order. Announcements go on: they tell what remains."""
        self._perform(self._membership.leave(self._loop.time()))
        while self._handing_over:
            await asyncio.wait(self._handing_over)

    async def stop(self) -> None:
        """Say farewell, when nothing is open any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            await self._listener.stop()
            self._announce(self._membership.farewell(self._loop.time()))
            # Who misses it takes us for dead, and nothing of ours before that.
            await asyncio.sleep(self._membership.pause)
            self._announce(self._membership.farewell(self._loop.time()))

    def _hear(self, body: bytes) -> None:
        word = decode(body)
        if word is None:
            metrics.ignored_heartbeats.inc()
            return
        if word.worker != self._membership.worker and not word.joining:
            self._leftovers.forget(word.partitions)
        self._perform(self._membership.hear(word, self._loop.time()))

    def _wake(self) -> None:
        now = self._loop.time()
        self._perform(self._membership.wake(now, hearing=self._broker.hearing))

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self._act(action)
        self._show()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._membership.wake_at, self._wake)

    def _act(self, action: Action) -> None:
        match action:
            case Take():
                self._take(action)
            case GiveUp():
                task = self._loop.create_task(self._give_up(action))
                self._handing_over.add(task)
                task.add_done_callback(self._handing_over.discard)
            case Heed():
                self._holder.heed(action.traces)
            case Announce():
                self._announce(action)
            case Died():
                get_logger().warning("a worker is silent", worker=action.worker)

    def _take(self, take: Take) -> None:
        lane, number = take.partition
        self._leftovers.forget([take.partition])
        self._holder.take(take.partition, fresh=take.fresh, traces=take.traces)
        metrics.partition_owned.labels(lane, number).set(1)
        metrics.ownership_changes.labels("taken").inc()
        get_logger().info("partition taken", lane=lane, partition=number, fresh=take.fresh)

    async def _give_up(self, action: GiveUp) -> None:
        lane, number = partition = action.partition
        traces: Sequence[Trace] = ()
        try:
            traces = await self._holder.give_up(partition)
        except Exception:
            get_logger().exception("giving up failed", lane=lane, partition=number)
        now = self._loop.time()
        self._leftovers.keep(partition, traces, now)
        metrics.partition_owned.labels(lane, number).set(0)
        metrics.ownership_changes.labels(action.why).inc()
        get_logger().info("partition given up", lane=lane, partition=number, why=action.why)
        self._perform(self._membership.given_up(partition, now))

    def _announce(self, announce: Announce) -> None:
        remains = self._leftovers.told(self._holder.remains(), self._loop.time())
        self._broker.announce(encode(with_remains(announce.heartbeat, remains)))

    def _show(self) -> None:
        claims = self._membership.claims
        for lane in self._lanes:
            owned = sum(partition.lane == lane for partition in claims)
            metrics.owned_partitions.labels(lane).set(owned)
            metrics.members.labels(lane).set(self._membership.members(lane))
