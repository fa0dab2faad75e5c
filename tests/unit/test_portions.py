"""Mail that can wait, a little at a time, between the mail that cannot."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from services.delivery.partitions import AGAIN
from services.router.handling import PACES
from shared.broker.interface import Delivery, Outgoing
from shared.broker.pacing import Pace
from shared.broker.portions import Foremost, Portions
from shared.broker.topology import ACCEPTED, DUE
from tests.support.memory_broker import MemoryBroker

WITHOUT_PAUSE = Pace(portion=3, pause=0.0)
FOR_EVER = Pace(portion=3, pause=1e9)
"""After a portion comes a pause that no test sees the end of."""


class Desk:
    """Handles both kinds; `order` has the ids."""

    def __init__(self, pace: Pace, prefetch: int = 100) -> None:
        self.broker = MemoryBroker()
        self.order: list[str] = []
        self.foremost = Foremost(self.handle)
        self.portions = Portions(self.handle, pace, self.foremost)
        self.broker.consume(ACCEPTED, prefetch, self.foremost.handle)
        self.consumer = self.broker.consume(DUE, prefetch, self.portions.handle)

    def handle(self, delivery: Delivery) -> None:
        self.order.append(delivery.message_id)
        if delivery.message_id == "bad":
            raise ValueError("bad")
        delivery.ack()

    async def publish(self, queue: str, *names: str) -> None:
        await asyncio.gather(*(self.broker.publish(Outgoing(queue, b"", name)) for name in names))

    async def turns(self, count: int) -> None:
        """Let the loop turn."""
        for _ in range(count):
            await asyncio.sleep(0)


def names(count: int) -> list[str]:
    return [f"job{number}" for number in range(count)]


def test_there_is_a_pause_until_other_mail_stays_away() -> None:
    pace = Pace(portion=8, pause=0.005, quiet=1.0)
    assert (pace.wait(silence=0.9), pace.wait(silence=1.0)) == (0.005, 0.0)


@pytest.mark.parametrize("pace", [PACES[DUE], AGAIN])
def test_what_others_wait_for_is_over_in_a_minute(pace: Pace) -> None:
    assert 60 * pace.a_second >= 90_000


async def test_all_is_handled_in_order_a_portion_a_turn() -> None:
    desk = Desk(WITHOUT_PAUSE)
    await desk.publish(DUE, *names(9))
    seen = [len(desk.order)]
    while len(desk.order) < 9:
        await desk.turns(1)
        seen.append(len(desk.order))
    assert max(after - before for before, after in pairwise(seen)) == 3
    assert desk.order == names(9)


async def test_mail_that_cannot_wait_is_handled_between_two_portions() -> None:
    desk = Desk(WITHOUT_PAUSE)
    await desk.publish(DUE, *names(90))
    await desk.publish(ACCEPTED, "mail")
    await desk.turns(60)
    assert len(desk.order) == 91
    assert desk.order.index("mail") < 30


async def test_while_other_mail_comes_there_is_a_pause_after_each_portion() -> None:
    desk = Desk(FOR_EVER)
    await desk.publish(ACCEPTED, "mail")
    await desk.publish(DUE, *names(9))
    await desk.turns(50)
    assert desk.order == ["mail", *names(3)]
    await desk.publish(DUE, "late")
    await desk.turns(50)
    assert desk.order == ["mail", *names(3)]


async def test_without_other_mail_there_is_no_pause() -> None:
    desk = Desk(FOR_EVER)
    await desk.publish(DUE, *names(9))
    await desk.turns(50)
    assert desk.order == names(9)


async def test_what_waits_is_given_back_when_its_consumer_was_stopped() -> None:
    desk = Desk(FOR_EVER)
    await desk.publish(ACCEPTED, "mail")
    await desk.publish(DUE, *names(9))
    await desk.turns(50)
    await desk.consumer.stop()
    desk.portions.release([ACCEPTED])
    assert desk.broker.waiting(DUE) == []
    desk.portions.release([DUE])
    assert [message.message_id for message in desk.broker.waiting(DUE)] == names(9)[3:]


async def test_a_job_whose_handler_fails_is_counted_and_the_others_go_on() -> None:
    desk = Desk(WITHOUT_PAUSE, prefetch=2)
    await desk.publish(DUE, "bad", *names(3))
    await desk.turns(200)
    assert set(names(3)) < set(desk.order)
    assert desk.order.count("bad") > 1
    assert len(desk.broker.published_to("postroad.parked")) == 1
