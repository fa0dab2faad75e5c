"""Every queue and its arguments, in one table.

Declared idempotently at start by whichever service comes first. RabbitMQ gets quorum queues with
the arguments of `amqp_arguments`; the embedded broker reads the same table. All messages go
through the default exchange, so a queue's name is its address and `mandatory` is the whole
routing check.

Arguments of a queue cannot be changed once it exists: a queue whose meaning changes needs a new
name. That is why a retry step carries its delay in its name: a changed schedule declares new
queues and the old ones run dry by their own TTL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

ACCEPTED = "postroad.accepted"
"""Accepted mail on its way from ingress (and DSNs on their way back) to the router."""
DUE = "postroad.due"
"""Delivery jobs whose retry delay is over, on their way back to the router."""
CROWD = "postroad.due.crowd"
"""The same, for jobs that nobody waits for: the router takes its time over them."""
PARKED = "postroad.parked"
"""Messages nobody could handle, with the reason; a person decides."""

GUARANTEED_EVENTS = "postroad.events.guaranteed"
"""Events of tenants who asked that none be lost, for whoever reads them."""

EVENTS = "postroad.events"
"""The topic exchange on which all other events are told, without promise."""
FOLLOWERS = "postroad.events.followers"
"""The fanout exchange on which those who follow events say that they do."""
MEMBERS = "postroad.members"
"""The fanout exchange on which delivery workers tell each other that they live."""
WAIT_STEPS_MS = (1_000, 5_000, 30_000, 120_000, 600_000)
"""Delays for jobs that cannot start soon: back through `DUE`, and no attempt is counted."""

DELIVERY_LIMIT = 20
"""Deliveries that may fail or die with their consumer before a message is parked."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue: `delay_ms` makes it a retry step that hands over to `dead_letter_to`.

    `single_active`: of all its consumers one is served, the others stand by.
    """

    name: str
    dead_letter_to: str | None = None
    delivery_limit: int | None = None
    delay_ms: int | None = None
    single_active: bool = False


@dataclass(frozen=True)
class Topology:
    """All queues of one configuration."""

    queues: tuple[Queue, ...]

    @cached_property
    def _by_name(self) -> Mapping[str, Queue]:
        return {queue.name: queue for queue in self.queues}

    @cached_property
    def _steps(self) -> Mapping[tuple[str | None, int], str]:
        return {
            (queue.dead_letter_to, queue.delay_ms): queue.name
            for queue in self.queues
            if queue.delay_ms is not None
        }

    def names(self) -> Set[str]:
        """The names of all declared queues."""
        return self._by_name.keys()

    def find(self, name: str) -> Queue | None:
        """The queue of that name: as declared, or as a former plan declared it for a lane."""
        found = self._by_name.get(name)
        if found is None and name.startswith(LANE_PREFIX):
            return _partition(name)
        return found

    def lanes(self) -> frozenset[str]:
        """The names of the queues that lead from the router to delivery."""
        return frozenset(name for name in self.names() if name.startswith(LANE_PREFIX))

    def delayed_through(self, queue: str, delay_ms: int) -> str:
        """The step through which a message reaches `queue` after `delay_ms`.

        Raises ValueError if that delay is not declared for that queue.
        """
        step = self._steps.get((queue, delay_ms))
        if step is None:
            raise ValueError(f"no delay of {delay_ms} ms is declared for {queue}")
        return step


LANE_PREFIX = "postroad.lane."
FIRST_LANES = frozenset({f"{LANE_PREFIX}default.transactional", f"{LANE_PREFIX}default.bulk"})
"""The lane queues of releases that had no partitions yet."""


def lane_queue(lane: str, partition: int, message_class: str, *, again: bool = False) -> str:
    """The queue of one message class in one partition of a lane, from the router to a worker.

    `again`: for jobs that come again, which never stand before those that come first.
    """
    name = f"{LANE_PREFIX}{lane}.{partition}.{message_class}"
    return f"{name}.again" if again else name


def retry_queue(delay_ms: int, due: str = DUE) -> str:
    """The queue in which jobs wait `delay_ms` before they are in `due` again."""
    return f"postroad.retry.{delay_ms}ms{due.removeprefix(DUE)}"


def _working(name: str) -> Queue:
    return Queue(name, dead_letter_to=PARKED, delivery_limit=DELIVERY_LIMIT)


def _partition(name: str) -> Queue:
    return Queue(name, PARKED, DELIVERY_LIMIT, single_active=True)


def _step(delay_ms: int, due: str) -> Queue:
    return Queue(retry_queue(delay_ms, due), dead_letter_to=due, delay_ms=delay_ms)


def entrance(*, events: bool = False) -> Topology:
    """What ingress needs: where accepted mail goes, and where that is parked."""
    return Topology((Queue(PARKED), _working(ACCEPTED), *_guaranteed(events)))


def outlook() -> Topology:
    """What a reader of guaranteed events needs."""
    return Topology((Queue(PARKED), *_guaranteed(True)))


def _guaranteed(wanted: bool) -> tuple[Queue, ...]:
    # RabbitMQ 4 has a delivery limit without being asked, and drops what passes it: a reader that
    # dies again and again may not cost an event.
    return (_working(GUARANTEED_EVENTS),) if wanted else ()


def build_topology(
    retry_delays_ms: Iterable[int],
    lanes: Mapping[str, int] | None = None,
    classes: Iterable[str] = ("transactional", "bulk"),
    *,
    events: bool = False,
) -> Topology:
    """The table for one configuration; equal delays share one step.

    `lanes` has the number of partitions of each lane that matters to this process; `events`
    whether there are tenants with guaranteed events.
    """
    delays = dict.fromkeys((*retry_delays_ms, *WAIT_STEPS_MS))
    steps = tuple(_step(delay, due) for due in (DUE, CROWD) for delay in delays)
    classes = tuple(classes)
    partitions = tuple(
        _partition(lane_queue(lane, number, message_class, again=again))
        for lane, count in (lanes or {}).items()
        for number in range(count)
        for message_class in classes
        for again in (False, True)
    )
    working = (_working(name) for name in (ACCEPTED, DUE, CROWD))
    return Topology((Queue(PARKED), *working, *partitions, *steps, *_guaranteed(events)))


def amqp_arguments(queue: Queue) -> Mapping[str, Any]:
    """The x-arguments of a durable quorum queue, valid from RabbitMQ 3.10 to 4.x.

    Dead-lettering is at least once, which RabbitMQ grants only together with reject-publish
    (https://www.rabbitmq.com/docs/quorum-queues#dead-lettering).
    """
    arguments: dict[str, Any] = {"x-queue-type": "quorum"}
    if queue.dead_letter_to is not None:
        arguments |= {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": queue.dead_letter_to,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    if queue.delivery_limit is not None:
        arguments["x-delivery-limit"] = queue.delivery_limit
    if queue.single_active:
        arguments["x-single-active-consumer"] = True
    if queue.delay_ms is not None:
        arguments["x-message-ttl"] = queue.delay_ms
    return arguments
