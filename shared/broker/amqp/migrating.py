"""Gives queues other arguments, which RabbitMQ does not change: a queue is exchanged for another.

    look:    which queues differ from the topology, and what a former migration has left
    aside:   declare `<queue>.migrating`, move all of the queue into it
    change:  delete the queue, which is empty and nobody uses, and declare it anew
    back:    move all back, delete `<queue>.migrating`

What is there tells how far it came, so after a kill at any instant the same command goes on where
it was. Each message is confirmed in one queue before it leaves the other; a kill makes copies of
one batch at most. Jobs of a retry step begin their delay anew: they wait at most twice.

What the broker itself moves (a delay that is over) would be lost in a queue that is deleted at that
instant. So the steps that lead to a queue are set aside with it. Blocks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from amqp.exceptions import AMQPError, NotFound

from shared.broker.amqp.attendance import Alone, alone
from shared.broker.amqp.connection import LinkOptions, connect
from shared.broker.amqp.declaring import fence
from shared.broker.amqp.differing import differences
from shared.broker.amqp.moving import BATCH, Move
from shared.broker.migration import Finding, MigrationError, Say
from shared.broker.topology import DELIVERY_LIMIT, PARKED, Queue, Topology, amqp_arguments
from shared.settings.model import BrokerSettings

SUFFIX = ".migrating"
LEAVE_SECONDS = 90.0
"""How long to wait until everybody has left: a process that hangs is noticed by its heartbeat."""
SETTLE_SECONDS = 2.0
"""How long the broker may take to move what became due before its step was set aside."""


def aside(queue: Queue) -> Queue:
    """Where the messages of `queue` are meanwhile: its limit must drop nothing (RabbitMQ 4)."""
    if queue.name == PARKED:
        return Queue(PARKED + SUFFIX)
    return Queue(queue.name + SUFFIX, dead_letter_to=PARKED, delivery_limit=DELIVERY_LIMIT)


def look(connection: Any, topology: Topology) -> list[Finding]:
    """What is not as it should be, of the queues that are there."""
    channel = connection.channel()
    findings = []
    for queue in topology.queues:
        there = depth(channel, queue.name) is not None
        differing = differences(connection, queue) if there else []
        unfinished = depth(channel, queue.name + SUFFIX) is not None
        if differing or unfinished:
            findings.append(Finding(queue, differing, unfinished))
    channel.close()
    return findings


def depth(channel: Any, queue: str) -> int | None:
    """Messages ready in a queue; None when it is not there."""
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except NotFound:
        return None  # py-amqp opens the channel again by itself


class AmqpMigration:
    """See `shared.broker.migration.Migration`. Each call has a connection of its own."""

    def __init__(
        self, settings: BrokerSettings, topology: Topology, patience: float = LEAVE_SECONDS
    ) -> None:
        heartbeat = settings.heartbeat / 1000
        self._options = LinkOptions(settings.url, "postroad-migration", heartbeat)
        self._topology = topology
        self._patience = patience

    def look(self) -> Sequence[Finding]:
        """What is not as it should be, of the queues that are there."""
        with self._connection() as connection:
            return look(connection, self._topology)

    def migrate(self, say: Say) -> None:
        """Make all queues as they should be."""
        say("waiting until no service uses the queues; they come back by themselves")
        with (
            self._connection() as connection,
            alone(connection, self._patience) as by_myself,
        ):
            findings = look(connection, self._topology)
            Exchange(connection, by_myself, say).run(findings, self._topology)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        try:
            connection = connect(self._options)
            try:
                yield connection
            finally:
                connection.collect()
        except (AMQPError, OSError) as error:
            raise MigrationError(str(error) or repr(error)) from error


class Exchange:
    """One migration, as long as we are alone."""

    def __init__(
        self,
        connection: Any,
        by_myself: Alone,
        say: Say,
        settle: float = SETTLE_SECONDS,
        batch: int = BATCH,
    ) -> None:
        self._settle = settle
        self._batch = batch
        self._connection = connection
        self._channel = connection.channel()
        self._alone = by_myself
        self._say = say

    def run(self, findings: Sequence[Finding], topology: Topology) -> None:
        """Set aside, change, and bring back."""
        differing = [finding.queue for finding in findings if finding.differences]
        targets = {queue.name for queue in differing}
        steps = [
            queue
            for queue in topology.queues
            if queue.delay_ms is not None and queue.dead_letter_to in targets
        ]
        moved = list(dict.fromkeys([*steps, *differing]))
        self._set_aside(moved, settle=bool(steps) or PARKED in targets)
        for queue in differing:
            self._change(queue)
        unfinished = [finding.queue for finding in findings if finding.unfinished]
        self._bring_back(list(dict.fromkeys([*moved, *unfinished])))

    def _set_aside(self, queues: Sequence[Queue], *, settle: bool) -> None:
        asides = [aside(queue) for queue in queues]
        self._declare([one for one in asides if depth(self._channel, one.name) is None])
        for queue in queues:
            self._empty(queue, aside(queue))
        if settle:
            time.sleep(self._settle)
            for queue in queues:
                self._empty(queue, aside(queue))

    def _empty(self, source: Queue, target: Queue) -> None:
        if depth(self._channel, source.name) is None:
            return
        self._check_unused(source)
        moved = Move(self._connection, source.name, target.name, self._batch).run()
        if moved:
            self._say(f"{source.name}: {moved} messages moved to {target.name}")

    def _check_unused(self, queue: Queue) -> None:
        self._alone.check()
        if self._channel.queue_declare(queue.name, passive=True).consumer_count:
            raise MigrationError(
                f"somebody who is not postroad consumes {queue.name}: end him first"
            )

    def _change(self, queue: Queue) -> None:
        self._check_unused(queue)
        if depth(self._channel, queue.name):
            raise MigrationError(f"somebody who is not postroad has published to {queue.name}")
        # custody: all it held is confirmed elsewhere, and nobody is there who could publish to it.
        self._channel.queue_delete(queue.name)
        self._declare([queue])
        self._say(f"{queue.name}: declared anew")

    def _bring_back(self, queues: Sequence[Queue]) -> None:
        self._declare(queues)
        for queue in queues:
            self._empty(aside(queue), queue)
            self._channel.queue_delete(aside(queue).name)

    def _declare(self, queues: Sequence[Queue]) -> None:
        """What is confirmed in a queue is safe only once that is fenced."""
        for queue in queues:
            self._channel.queue_declare(
                queue.name, durable=True, auto_delete=False, arguments=dict(amqp_arguments(queue))
            )
        if queues:
            fence(self._connection)
