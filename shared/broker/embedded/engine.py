"""One transaction for one batch: what the writer thread does with the store, without the thread.

Successors go in and their predecessor goes out in the same transaction, so a crash leaves either
the one or the others: forwarding makes neither losses nor duplicates here.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from shared import metrics
from shared.broker.embedded.doorbells import Doorbells
from shared.broker.embedded.fences import Fences
from shared.broker.embedded.owners import Owners, WriterLock
from shared.broker.embedded.records import (
    Batch,
    Leased,
    Outcome,
    Row,
    Subscription,
    Survey,
    decode_meta,
    encode_meta,
)
from shared.broker.embedded.store import ROWS_A_STATEMENT, Store, make_directory
from shared.broker.embedded.subscriptions import Subscriptions
from shared.broker.interface import ParkReason
from shared.broker.parking import log_at_limit, parking_headers
from shared.broker.topology import PARKED, Queue, Topology
from shared.logs import get_logger

LEASE_BYTES = 4 << 20
LEASE_MESSAGES = 128


class Engine:
    """The store with its lock, its owner and what this owner holds. Used by one thread."""

    def __init__(self, directory: Path, topology: Topology) -> None:
        """Open or create the store. Raises `OSError` and `sqlite3.Error`."""
        make_directory(directory)
        self._topology = topology
        self._lock = WriterLock(directory / "writer.lock")
        self._held: dict[int, Subscription] = {}
        own_id = secrets.randbits(62)
        with self._lock:
            self._store = Store(directory / "queues.sqlite3")
            self._owners = Owners(directory / "owners", own_id)
            self.doorbells = Doorbells(directory / "doorbells", own_id)
            self.subscriptions = Subscriptions(topology, Fences(directory / "active"))
            self._reap({*self._owners.dead(), *self._owners.strangers(self._store.owners())})
        self.doorbells.refresh()
        self._version = self._store.data_version()
        self._due = math.inf
        self.look_at_clock()

    @property
    def due(self) -> float:
        """When the next delayed message becomes ready (epoch seconds)."""
        return self._due

    def look_at_clock(self) -> None:
        """Learn the next due time from the store: another process may have delayed a message."""
        self._due = self._next_due()

    def _next_due(self) -> float:
        due = self._store.next_due()
        return math.inf if due is None else due

    def join(self, subscription: Subscription) -> None:
        """Begin to lease for a consumer; `admit` is due."""
        self.subscriptions.join(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Lease no more for a consumer; what it holds stays held. `admit` is due."""
        if self.subscriptions.leave(subscription):
            self.doorbells.ring({subscription.queue})
        if not self.subscriptions.consumed(subscription.queue):
            self.doorbells.hush(subscription.queue)

    def admit(self) -> None:
        """Serve consumers that stood by, where it is their turn. Raises `sqlite3.Error`."""
        if self.subscriptions.admit():
            # Whoever was served before may have died: what it held comes first.
            self._take_back_from_the_dead()

    def answer(self, descriptor: int) -> None:
        """A bell rang: messages became ready, or a consumer gave its queue up."""
        self.subscriptions.noticed({self.doorbells.answer(descriptor)})
        self.look_at_clock()
        self.admit()

    def look_for_changes(self) -> None:
        """Notice what other processes did without ringing."""
        self.admit()
        version = self._store.data_version()
        if version != self._version:
            self._version = version
            self.subscriptions.noticed(self._store.ready_queues())
            self.look_at_clock()

    def run(self, batch: Batch, now: float) -> Outcome:
        """Commit a batch and lease what consumers have room for. Raises `sqlite3.Error`: undone."""
        rows = batch.arrivals()
        if rows and len(rows) <= ROWS_A_STATEMENT and self._nothing_else(now):
            return self._store_arrivals(batch, rows)
        taken = self._let_go(batch.settlements())
        try:
            with self._lock:
                self._store.begin(durable=batch.durable())
                touched, due = self._apply(batch, taken, now)
                self.subscriptions.noticed(touched)
                leases = self._lease()
                # custody: this commit is the confirm of every publish and forward in the batch.
                self._store.commit()
        except BaseException:
            self._store.rollback()
            self._hold_again(taken)
            raise
        # Nothing from here on may fail: the batch would count as undone and be done twice.
        self._hold(leases)
        self._due = due
        self.doorbells.ring(touched)
        return Outcome(posts=batch.posts, parks=batch.parks, leases=leases)

    def _nothing_else(self, now: float) -> bool:
        return now < self._due and not self.subscriptions.wanting()

    def _store_arrivals(self, batch: Batch, rows: Sequence[Row]) -> Outcome:
        """What ingress does most: nothing but new messages, which nobody here waits for."""
        touched = {row.queue for row in rows}
        with self._lock:
            # custody: this is the confirm of every publish in the batch.
            self._store.insert_alone(rows)
        times = [row.visible_at for row in rows if row.visible_at is not None]
        self._due = min(self._due, *times) if times else self._due
        self.subscriptions.noticed(touched)
        self.doorbells.ring(touched)
        return Outcome(posts=batch.posts)

    def _apply(
        self, batch: Batch, taken: Mapping[int, Subscription], now: float
    ) -> tuple[set[str], float]:
        own, store = self._owners.own_id, self._store
        rows = [row for post in batch.posts for row in post.rows]
        done = [post.predecessor for post in batch.posts if post.predecessor is not None]
        store.insert(rows)
        store.delete(own, batch.acks + done)
        store.give_back(own, batch.releases, counted=False)
        store.give_back(own, batch.failures, counted=True)
        for park in batch.parks:
            store.move(own, park.id, PARKED, park.meta)
        touched = {row.queue for row in rows}
        touched |= {taken[i].queue for i in batch.releases + batch.failures if i in taken}
        if batch.parks:
            touched.add(PARKED)
        if now < self._due:
            times = [row.visible_at for row in rows if row.visible_at is not None]
            return touched, min(self._due, *times) if times else self._due
        return touched | store.promote(now), self._next_due()

    def _lease(self) -> list[tuple[Subscription, list[Leased]]]:
        leases = []
        for sub in self.subscriptions.hungry():
            room = min(sub.prefetch - sub.held, sub.lease_limit)
            if room <= 0:
                continue
            leased = self._store.lease(sub.queue, self._owners.own_id, room)
            if len(leased) < room:
                self.subscriptions.sated(sub)
            if leased:
                leases.append((sub, leased))
        return leases

    def _hold(self, leases: list[tuple[Subscription, list[Leased]]]) -> None:
        for sub, leased in leases:
            sub.held += len(leased)
            self._held.update((message.id, sub) for message in leased)
            size = sum(len(message.body) for message in leased) // len(leased) + 1
            sub.lease_limit = max(1, min(LEASE_MESSAGES, LEASE_BYTES // size))

    def _let_go(self, ids: list[int]) -> dict[int, Subscription]:
        taken = {}
        for number in ids:
            sub = self._held.pop(number, None)
            if sub is not None:
                sub.held -= 1
                taken[number] = sub
        return taken

    def _hold_again(self, taken: Mapping[int, Subscription]) -> None:
        for number, sub in taken.items():
            self._held[number] = sub
            sub.held += 1
        self.subscriptions.noticed(tuple(self.subscriptions.queues()))

    def survey(self) -> Survey:
        """What the store holds now. Raises `sqlite3.Error`."""
        return Survey(self._store.depths(), self._store.queues())

    def keep_house(self) -> None:
        """Once a second: take back what dead owners held, learn new doorbells, read the clock."""
        self.doorbells.refresh()
        self._take_back_from_the_dead()
        self.look_at_clock()

    def _take_back_from_the_dead(self) -> None:
        with self._lock:
            touched = self._reap(self._owners.dead())
        self.doorbells.ring(touched)
        self.subscriptions.noticed(touched)

    def _reap(self, owners: Iterable[int]) -> set[str]:
        touched: set[str] = set()
        for owner in owners:
            touched |= self._take_back(owner)
            self.doorbells.bury(owner)
            self._owners.bury(owner)
        return touched

    def _take_back(self, owner: int) -> set[str]:
        self._store.begin(durable=False)
        try:
            held = self._store.held_by(owner)
            for number, queue, deliveries, meta in held:
                if _exhausted(deliveries, self._topology.find(queue)):
                    self._park_for_limit(owner, number, queue, meta)
            self._store.give_back(owner, [number for number, *_ in held], counted=True)
            self._store.commit()
        except BaseException:
            self._store.rollback()
            raise
        get_logger().warning("took back the messages of a dead process", messages=len(held))
        return {queue for _, queue, *_ in held} | {PARKED}

    def _park_for_limit(self, owner: int, number: int, queue: str, meta: str) -> None:
        message_id, headers = decode_meta(meta)
        detail = "its consumers died"
        parked = parking_headers(headers, queue, ParkReason.DELIVERY_LIMIT, detail)
        self._store.move(owner, number, PARKED, encode_meta(message_id, parked))
        metrics.parked_messages.labels(ParkReason.DELIVERY_LIMIT.value).inc()
        log_at_limit(message_id, detail)

    def reopen(self) -> None:
        """A fresh connection after an error. Raises `sqlite3.Error`."""
        with self._lock:
            self._store.reopen()

    def probe(self) -> None:
        """Learn whether the disk takes data again. Raises `sqlite3.Error` if not."""
        with self._lock:
            try:
                self._store.probe()
            except BaseException:
                self._store.rollback()
                raise

    def close(self) -> None:
        """Give back everything that is held, uncounted, and leave the store."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._store.begin(durable=False)
            self._store.give_back(self._owners.own_id, list(self._held), counted=False)
            self._store.commit()
        with self._lock:
            self._owners.leave()
            self._store.close()
        queues = {sub.queue for sub in self._held.values()}
        # What was held is back: only now may others be served.
        queues |= {sub.queue for sub in tuple(self.subscriptions) if self.subscriptions.leave(sub)}
        self.doorbells.ring(queues)
        self.doorbells.close()
        self._lock.close()


def _exhausted(deliveries: int, queue: Queue | None) -> bool:
    limit = None if queue is None else queue.delivery_limit
    return limit is not None and deliveries > limit
