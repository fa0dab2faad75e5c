"""What a declaration of hundreds of queues costs in round trips, and how often it is made."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from amqp.exceptions import NotFound

from shared.broker.amqp.attendance import ATTENDANCE
from shared.broker.amqp.declaring import DECLARING_CHANNELS, Declaration, declare
from shared.broker.topology import build_topology, entrance

EIGHT_LANES = build_topology([60_000], {f"lane{number}": 8 for number in range(8)})


class Server:
    """A connection that counts what is declared over it, and how often somebody waits for it."""

    def __init__(self) -> None:
        self.declared: Counter[str] = Counter()
        self.fences: list[int] = []
        self.attending = 0
        self.waits = 0
        self.open = 0

    @property
    def transport(self) -> Server:
        return self

    def hold(self) -> None:
        pass

    def channel(self) -> Server:
        self.waits += 1
        self.open += 1
        return self

    def close(self) -> None:
        self.waits += 1
        self.open -= 1

    def basic_qos(self, *_: Any) -> None:
        self.waits += 1

    def basic_consume(self, name: str, **_: Any) -> None:
        assert name == ATTENDANCE
        self.attending += 1

    def queue_declare(
        self, name: str, *, nowait: bool = False, passive: bool = False, **_: Any
    ) -> None:
        if passive:
            raise NotFound(f"no queue {name}")
        if name == ATTENDANCE:
            return
        if name.startswith("postroad.fence."):
            self.fences.append(sum(self.declared.values()))
            return
        self.declared[name] += 1
        self.waits += not nowait

    def queue_delete(self, name: str) -> None:
        assert name.startswith("postroad.fence.")


def test_hundreds_of_queues_are_declared_once_each_in_a_few_round_trips() -> None:
    server = Server()
    declare(server, EIGHT_LANES.queues)
    assert server.declared == Counter(EIGHT_LANES.names())
    assert len(server.declared) > 128
    assert server.waits <= 3 * DECLARING_CHANNELS
    assert server.open == 0


def test_nothing_to_declare_takes_no_channel() -> None:
    server = Server()
    declare(server, ())
    assert server.waits == 0


def test_the_connections_of_a_process_declare_once_even_at_the_same_time() -> None:
    server, declaration = Server(), Declaration(EIGHT_LANES)
    threads = [threading.Thread(target=declaration.ensure, args=[server]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(server.declared.values()) == {1}


def test_each_connection_of_a_process_attends() -> None:
    server, declaration = Server(), Declaration(entrance())
    declaration.ensure(server)
    declaration.ensure(server)
    assert server.attending == 2


def test_after_a_lost_connection_all_is_declared_again_and_a_missing_queue_at_once() -> None:
    server, declaration = Server(), Declaration(EIGHT_LANES)
    declaration.ensure(server)
    declaration.doubt()
    declaration.ensure(server)
    declaration.ensure(server)
    declaration.renew(server)
    assert set(server.declared.values()) == {3}


def test_whatever_is_declared_is_fenced_before_anything_is_published() -> None:
    server, declaration = Server(), Declaration(entrance())
    every = len(entrance().names())
    declaration.ensure_lasting(server)
    declaration.ensure_lasting(server)
    assert server.fences == [every]
    declaration.doubt()
    declaration.ensure_lasting(server)
    declaration.renew(server)
    assert server.fences == [every, 2 * every, 3 * every]
