"""A queue is exchanged for one with other arguments: nothing is lost, wherever it is killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from shared.broker.amqp.attendance import ATTENDANCE, WORD_LASTS_MS, Alone
from shared.broker.amqp.connection import LinkOptions, connect
from shared.broker.amqp.migrating import Exchange, look
from shared.broker.amqp.moving import Move
from shared.broker.topology import DELIVERY_LIMIT, PARKED, Queue, Topology
from tests.upgrade.queues import contents, declare_otherwise, fill

pytestmark = pytest.mark.rabbitmq

ALONE = Queue("alone", PARKED, DELIVERY_LIMIT, single_active=True)
TARGET = Queue("target", PARKED, DELIVERY_LIMIT)
STEP = Queue("step", dead_letter_to="target", delay_ms=600_000)
FINE = Queue("fine", PARKED, DELIVERY_LIMIT)
TOPOLOGY = Topology((Queue(PARKED), ALONE, TARGET, STEP, FINE))
NAMES = {
    "alone": [f"a{n}" for n in range(5)],
    "target": ["t1", "t2"],
    "step": ["s1", "s2"],
    PARKED: ["p1"],
    "fine": ["f1"],
}
SMALL_BATCH = 2
STRIDE = 47
"""Not each instant is tried: with 1 they all are."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs any more, and the kernel closes the socket."""


STEPS = {
    *("queue_declare", "queue_delete", "basic_consume", "basic_ack", "basic_cancel"),
    "flush",  # what is published
}


class Mortal:
    """A connection, or a part of one, that dies before the nth thing it asks of the broker."""

    def __init__(self, inner: Any, asked: list[str], at: int) -> None:
        self._inner = inner
        self._asked = asked
        self._at = at

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name == "channel":
            return lambda: Mortal(found(), self._asked, self._at)
        if name == "transport":
            return Mortal(found, self._asked, self._at)
        return self._mortal(name, found) if name in STEPS else found

    def _mortal(self, name: str, found: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._asked.append(name)
            if len(self._asked) == self._at:
                raise Killed
            return found(*arguments, **named)

        return call


def prepare(connection: Any) -> None:
    declare_otherwise(connection, Queue(PARKED), x_delivery_limit=5)
    declare_otherwise(connection, ALONE, x_single_active_consumer=None)
    declare_otherwise(connection, TARGET, x_delivery_limit=5)
    declare_otherwise(connection, STEP)
    declare_otherwise(connection, FINE)
    for queue, names in NAMES.items():
        fill(connection, queue, names)


def _unheard(_line: str) -> None:
    pass


def exchange(url: str, at: int = 0, say: Callable[[str], None] = _unheard) -> list[str]:
    """One migration, killed before the nth thing that it asks: all these. Raises `Killed`."""
    opened = connect(LinkOptions(url, "mortal", 60))
    asked: list[str] = []
    mortal = Mortal(opened, asked, at)
    try:
        attendance = {"x-queue-type": "quorum", "x-message-ttl": WORD_LASTS_MS}
        opened.channel().queue_declare(
            ATTENDANCE, durable=True, auto_delete=False, arguments=attendance
        )
        work = Exchange(mortal, Alone(opened.channel()), say, settle=0.0, batch=SMALL_BATCH)
        work.run(look(opened, TOPOLOGY), TOPOLOGY)
    finally:
        opened.collect()
    return asked


def held(url: str) -> dict[str, list[str]]:
    """What each queue holds, taken out. A single active consumer excludes basic.get."""
    found = {queue: contents(url, [queue]) for queue in NAMES if queue != "alone"}
    opened = connect(LinkOptions(url, "held", 60))
    Move(opened, "alone", "fine").run()
    opened.collect()
    return found | {"alone": contents(url, ["fine"])}


def test_all_queues_are_as_they_should_be_and_hold_what_they_held(
    connection: Any, url: str
) -> None:
    prepare(connection)
    before = {one.queue.name for one in look(connection, TOPOLOGY)}
    lines: list[str] = []
    exchange(url, say=lines.append)
    assert before == {PARKED, "alone", "target"}
    # What becomes due while its target is deleted would be lost.
    assert lines.index("step: 2 messages moved to step.migrating") < lines.index(
        "target: declared anew"
    )
    assert "step: declared anew" not in lines
    assert look(connection, TOPOLOGY) == []
    assert held(url) == NAMES


def test_killed_at_any_instant_it_loses_nothing_and_goes_on(connection: Any, url: str) -> None:
    prepare(connection)
    kills = 0
    for at in chosen(exchange(url)):
        clear(connection)
        prepare(connection)
        # How often the broker is asked varies with what it sends at a time: the last instants may
        # be none of this exchange.
        try:
            exchange(url, at)
        except Killed:
            kills += 1
        exchange(url)
        assert look(connection, TOPOLOGY) == []
        for queue, names in held(url).items():
            assert set(names) == set(NAMES[queue]), f"killed before {at}"
            assert len(names) <= len(NAMES[queue]) + SMALL_BATCH
    assert kills > 10


def chosen(asked: Sequence[str]) -> list[int]:
    """Before the first and the last thing of each kind, and some between: counted from 1."""
    firsts = {asked.index(step) + 1 for step in STEPS}
    lasts = {len(asked) - asked[::-1].index(step) for step in STEPS}
    return sorted(firsts | lasts | set(range(1, len(asked), STRIDE)))


def clear(connection: Any) -> None:
    channel = connection.channel()
    for queue in NAMES:
        channel.queue_delete(queue)
    channel.close()
