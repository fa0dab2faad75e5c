"""Nothing leaves the router's hands before its successors are durable."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from services.router.handling import Router
from shared.broker.interface import Outgoing, Refused
from shared.broker.parking import REASON
from shared.broker.topology import ACCEPTED, DUE, PARKED
from shared.content.interface import ContentMissing
from shared.dns.answers import AddressAnswer, MxAnswer
from shared.messages.codec import encode
from shared.messages.model import AcceptedMail, DsnWishes, Recipient
from tests.unit.router.rig import SETTINGS, TEXT, TRANSACTIONAL, Rig, job_in, large, mail, sample


async def is_there(rig: Rig, blob: str = "MAIL") -> bool:
    try:
        await rig.store.get(blob)
    except ContentMissing:
        return False
    return True


async def test_mail_stays_in_its_queue_while_its_jobs_cannot_be_published(rig: Rig) -> None:
    await rig.broker.publish(Outgoing(ACCEPTED, encode(mail("a@static.test")), "MAIL"))
    rig.broker.fail(Refused("disk full"))
    for _ in range(5):
        await asyncio.sleep(0)
    await rig.broker.close()
    assert rig.broker.published_to(TRANSACTIONAL) == []
    assert [message.message_id for message in rig.broker.waiting(ACCEPTED)] == ["MAIL"]


async def test_mail_is_settled_once_its_jobs_are_durable(rig: Rig) -> None:
    await rig.broker.publish(Outgoing(ACCEPTED, encode(mail("a@static.test")), "MAIL"))
    rig.broker.fail(Refused("disk full"))
    rig.broker.resume()
    await rig.broker.wait_published(2)
    await rig.broker.close()
    assert len(rig.broker.published_to(TRANSACTIONAL)) == 1
    assert rig.broker.waiting(ACCEPTED) == []


async def test_a_redelivered_mail_makes_the_same_ids(rig: Rig) -> None:
    first = mail("a@static.test", "b@mx.test", "c@null.test", "d@down.test")
    routed = await rig.route(first, 4)
    ids = [message.message_id for message in routed]
    rig.now += 100
    again = await rig.route(first, 4)
    assert sorted(message.message_id for message in again) == sorted(ids)
    assert len(set(ids)) == 4


def waiting_long(rig: Rig) -> AcceptedMail:
    rig.now += 1800
    asked = Recipient("a@down.test", "DELAY")
    return msgspec.structs.replace(mail(), dsn=DsnWishes(), recipients=(asked,))


async def test_a_redelivered_mail_makes_the_same_notice_of_its_delay(rig: Rig) -> None:
    asked = waiting_long(rig)
    first, again = [await rig.route(asked, 2) for _ in range(2)]
    assert {message.queue for message in first} == {DUE, ACCEPTED}
    assert [message.message_id for message in first] == [m.message_id for m in again]


async def test_a_notice_of_delay_is_as_durable_as_the_job_that_knows_of_it(rig: Rig) -> None:
    await rig.broker.publish(Outgoing(ACCEPTED, encode(waiting_long(rig)), "MAIL"))
    rig.broker.fail(Refused("disk full"))
    await rig.resolver.mail_exchangers("down.test")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(rig.broker.published) == 1
    await rig.broker.close()
    assert [message.message_id for message in rig.broker.waiting(ACCEPTED)] == ["MAIL"]


async def test_the_router_holds_no_more_than_its_prefetch(rig: Rig) -> None:
    before = sample("in_flight_jobs")
    body = encode(mail("a@static.test"))
    sent = [rig.broker.publish(Outgoing(ACCEPTED, body, str(number))) for number in range(6)]
    rig.broker.soon()
    await sent[0]
    rig.broker.stall()
    await asyncio.sleep(0)
    assert len(rig.broker.waiting(ACCEPTED)) == 2
    assert sample("in_flight_jobs") - before == 4


async def test_draining_ends_what_has_begun_and_takes_nothing_new(rig: Rig) -> None:
    before = sample("in_flight_jobs")
    await rig.broker.publish(Outgoing(ACCEPTED, encode(mail("a@static.test")), "MAIL"))
    rig.broker.stall()
    drained = asyncio.ensure_future(rig.router.drain())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not drained.done()
    rig.broker.resume()
    await asyncio.wait_for(drained, 5)
    assert len(rig.broker.published_to(TRANSACTIONAL)) == 1
    await rig.broker.publish(Outgoing(ACCEPTED, encode(mail("a@static.test")), "LATE"))
    assert [message.message_id for message in rig.broker.waiting(ACCEPTED)] == ["LATE"]
    assert sample("in_flight_jobs") == before


async def test_draining_waits_for_a_question_to_the_dns(rig: Rig) -> None:
    rig.authority.silent.add("slow.test.")
    await rig.broker.publish(Outgoing(ACCEPTED, encode(mail("a@slow.test")), "MAIL"))
    await asyncio.wait_for(rig.router.drain(), 5)
    assert [message.queue for message in rig.broker.published[1:]] == [DUE]


async def test_the_blob_of_a_mail_that_goes_nowhere_ends_with_the_drain(rig: Rig) -> None:
    await rig.store.put("MAIL", TEXT)
    (message,) = await rig.route(large("b@null.test"))
    assert message.queue == ACCEPTED
    assert b"Subject: hello" in message.body
    await rig.router.drain()
    assert not await is_there(rig)


@pytest.mark.parametrize("others", [(), ("a@static.test",), ("a@down.test",)])
async def test_the_blob_of_a_parked_mail_stays(rig: Rig, others: tuple[str, ...]) -> None:
    await rig.store.put("MAIL", TEXT)
    sent = large(*others, "b@null.test", reverse_path="")
    routed = await rig.route(sent, 1 + len(others))
    for message in routed:
        job = job_in(message)
        if message.queue != PARKED:
            await rig.store.end_share("MAIL", job.blob_share, job.id)
    await rig.router.drain()
    assert await is_there(rig)


async def test_a_blob_is_not_read_for_mail_that_only_waits(rig: Rig) -> None:
    (message,) = await rig.route(large("a@down.test", blob="nowhere"))
    assert (message.queue, message.delay_ms) == (DUE, 1000)


async def test_the_blob_of_mail_that_waits_stays(rig: Rig) -> None:
    await rig.store.put("MAIL", TEXT)
    await rig.route(large("a@down.test"))
    await rig.router.drain()
    assert await is_there(rig)


async def test_draining_waits_until_the_content_store_has_answered(rig: Rig) -> None:
    await rig.store.put("MAIL", TEXT)
    rig.store.answers.clear()
    await rig.route(large("b@null.test", reverse_path="me@static.test"))
    await asyncio.wait_for(rig.store.asked.wait(), 5)
    await rig.broker.wait_published(3)
    drained = asyncio.ensure_future(rig.router.drain())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not drained.done()
    rig.store.answers.set()
    await asyncio.wait_for(drained, 5)


async def test_a_store_that_goes_down_after_the_mail_costs_only_space(rig: Rig) -> None:
    await rig.store.put("MAIL", TEXT)
    rig.store.answers.clear()
    await rig.route(large("b@null.test"))
    rig.store.down = True
    rig.store.answers.set()
    await asyncio.wait_for(rig.router.drain(), 5)
    rig.store.down = False
    assert await is_there(rig)


async def test_a_mail_whose_blob_is_gone_is_parked(rig: Rig) -> None:
    (message,) = await rig.route(large("b@null.test", blob="nowhere"))
    assert message.headers[REASON] == "content_missing"


async def test_mail_waits_while_the_content_store_is_down(rig: Rig) -> None:
    await rig.store.put("MAIL", TEXT)
    rig.store.down = True
    sent = large("a@static.test", "b@null.test")
    (waiting,) = await rig.route(sent)
    assert (waiting.queue, waiting.delay_ms) == (DUE, 1000)
    assert job_in(waiting).attempt == 0
    rig.store.down = False
    rig.broker.elapse()
    routed = await rig.successors(2, 2)
    direct = await rig.route(sent, 2)
    assert [message.message_id for message in routed] == [m.message_id for m in direct]
    assert [message.queue for message in routed] == [TRANSACTIONAL, ACCEPTED]


class BrokenResolver:
    """Raises where a resolver never should."""

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once

    def cached_mail_exchangers(self, domain: str) -> MxAnswer | None:
        if self._at_once:
            raise RuntimeError(domain)
        return None

    async def mail_exchangers(self, domain: str) -> MxAnswer:
        raise RuntimeError(domain)

    async def addresses(self, host: str) -> AddressAnswer:
        raise RuntimeError(host)


@pytest.mark.parametrize("at_once", [True, False])
async def test_mail_that_breaks_the_router_is_parked_in_the_end(rig: Rig, at_once: bool) -> None:
    await rig.router.drain()
    router = Router(SETTINGS, rig.broker, BrokenResolver(at_once=at_once), rig.store)
    await router.start()
    (message,) = await rig.route(mail("a@mx.test"))
    assert message.headers[REASON] == "delivery_limit"
    await asyncio.wait_for(router.drain(), 5)
