"""The router on a broker in memory, with a real DNS server and a real content store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import dns.rcode
import msgspec
import pytest

from services.router.handling import Router
from shared.broker.interface import Outgoing, Refused
from shared.broker.parking import REASON
from shared.broker.topology import ACCEPTED, DUE, PARKED, build_topology, lane_queue
from shared.content.interface import ContentMissing
from shared.content.store import open_store
from shared.dns.resolver import DnspythonResolver
from shared.messages.codec import decode, encode
from shared.messages.model import (
    AcceptedMail,
    Content,
    DeliveryJob,
    MessageClass,
    Recipient,
)
from shared.settings.model import Settings
from tests.support.dns_authority import DnsAuthority, serving
from tests.support.memory_broker import MemoryBroker

TRANSACTIONAL = lane_queue("default", "transactional")
BULK = lane_queue("default", "bulk")
TEXT = b"Subject: hello\r\n\r\nbody\r\n"
SETTINGS = Settings.model_validate(
    {
        "hostname": "mta.test",
        "router": {"routes": [{"domains": ["static.test"], "hosts": ["127.0.0.1:2500"]}]},
        "delivery": {"retry_schedule": ["1s", "2s"], "max_age": "1h"},
    }
)


class Rig:
    """A router at work; `now` is its clock."""

    def __init__(self, authority: DnsAuthority, root: Path) -> None:
        self.authority = authority
        self.broker = MemoryBroker(build_topology([1000, 2000]))
        settings = SETTINGS.content_store.model_copy(update={"url": f"file://{root}/content"})
        self.store = open_store(settings)
        self.now = 1000.0

    async def route(self, message: AcceptedMail | DeliveryJob, count: int = 1) -> list[Outgoing]:
        """Give the router a message; what it has published once there are `count` successors."""
        queue = ACCEPTED if isinstance(message, AcceptedMail) else DUE
        await self.broker.publish(Outgoing(queue, encode(message), message.id))
        return (await self.broker.wait_published(count + 1))[1:]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    zone = {("mx.test.", "MX"): ["10 mail.mx.test."], ("null.test.", "MX"): ["0 ."],
            ("down.test.", "TXT"): ['"x"']}  # fmt: skip
    authority = DnsAuthority(zone)
    authority.rcodes["down.test."] = dns.rcode.SERVFAIL
    rig = Rig(authority, tmp_path)
    async with serving(authority) as settings:
        resolver = DnspythonResolver(settings)
        router = Router(SETTINGS, rig.broker, resolver, rig.store, lambda: rig.now)
        await router.start()
        yield rig
        rig.broker.resume()
        await router.drain()


def mail(*addresses: str, reverse_path: str = "me@s.test") -> AcceptedMail:
    content = Content(len(TEXT), memoryview(TEXT))
    return AcceptedMail("MAIL", 1000.0, reverse_path, tuple(map(Recipient, addresses)), content)


def job_in(message: Outgoing) -> DeliveryJob:
    job = decode(message.body)
    assert isinstance(job, DeliveryJob)
    return job


async def test_mail_with_a_static_route_becomes_a_job_in_its_lane(rig: Rig) -> None:
    (message,) = await rig.route(mail("a@static.test"))
    job = job_in(message)
    assert message.queue == TRANSACTIONAL
    assert (job.mail_id, job.static, job.attempt) == ("MAIL", True, 0)
    assert bytes(job.content.inline) == TEXT


async def test_bulk_mail_goes_to_its_own_queue(rig: Rig) -> None:
    bulk = msgspec.structs.replace(mail("a@static.test"), message_class=MessageClass.BULK)
    (message,) = await rig.route(bulk)
    assert message.queue == BULK


async def test_mail_without_a_route_goes_to_its_mail_exchangers(rig: Rig) -> None:
    (message,) = await rig.route(mail("a@mx.test"))
    job = job_in(message)
    assert [exchanger.host for exchanger in job.exchangers] == ["mail.mx.test"]
    assert not job.static


async def test_recipients_that_cannot_be_reached_are_reported_with_the_jobs(rig: Rig) -> None:
    routed = await rig.route(mail("a@static.test", "b@null.test", "c@none.test"), 2)
    assert [message.queue for message in routed] == [TRANSACTIONAL, ACCEPTED]
    dsn = decode(routed[1].body)
    assert isinstance(dsn, AcceptedMail)
    text = bytes(dsn.content.inline)
    assert dsn.reverse_path == ""
    assert b"Status: 5.1.10\r\n" in text
    assert b"Status: 5.1.2\r\n" in text
    assert b"Subject: hello" in text


async def test_a_notification_that_cannot_be_delivered_is_parked(rig: Rig) -> None:
    (message,) = await rig.route(mail("b@null.test", reverse_path=""))
    assert message.queue == PARKED
    assert message.headers[REASON] == "dsn_failed"
    assert [r.address for r in job_in(message).recipients] == ["b@null.test"]


async def test_trouble_of_the_dns_waits_on_the_ladder_and_counts_as_an_attempt(rig: Rig) -> None:
    (message,) = await rig.route(mail("a@down.test"))
    assert (message.queue, message.delay_ms) == (DUE, 1000)
    assert job_in(message).attempt == 1


async def test_a_job_that_is_due_takes_the_way_of_today(rig: Rig) -> None:
    (waiting,) = await rig.route(mail("a@down.test"))
    rig.authority.rcodes.clear()
    rig.authority.zone["down.test.", "MX"] = ["10 up.test."]
    due = msgspec.structs.replace(job_in(waiting), recipients=(Recipient("a@static.test"),))
    routed = await rig.route(due, 3)
    job = job_in(routed[2])
    assert (job.id, job.attempt, job.static) == (due.id, 1, True)


async def test_trouble_that_lasts_too_long_is_reported(rig: Rig) -> None:
    (waiting,) = await rig.route(mail("a@down.test"))
    rig.now += 3601
    routed = await rig.route(job_in(waiting), 3)
    dsn = decode(routed[2].body)
    assert isinstance(dsn, AcceptedMail)
    assert b"4.4.7" in bytes(dsn.content.inline)


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"\x80\x04K\x01.", "undecodable"), (b"\x81\xa6schema\x63", "unknown_schema")],
)
async def test_what_cannot_be_read_is_parked_and_the_queue_goes_on(
    rig: Rig, body: bytes, reason: str
) -> None:
    await rig.broker.publish(Outgoing(ACCEPTED, body, "poison"))
    routed = await rig.route(mail("a@static.test"), 3)
    parked = next(message for message in routed if message.queue == PARKED)
    assert (parked.body, parked.headers[REASON]) == (body, reason)
    assert routed[-1].queue == TRANSACTIONAL


async def test_nothing_is_settled_before_its_successors_are_durable(rig: Rig) -> None:
    await rig.broker.publish(Outgoing(ACCEPTED, encode(mail("a@static.test")), "MAIL"))
    rig.broker.fail(Refused("disk full"))
    await asyncio.sleep(0)
    assert rig.broker.published_to(TRANSACTIONAL) == []
    rig.broker.resume()
    assert len(await rig.broker.wait_published(2)) == 2


async def test_the_blob_of_a_mail_that_goes_nowhere_ends(rig: Rig) -> None:
    await rig.store.put("MAIL", TEXT)
    lost = msgspec.structs.replace(mail("b@null.test"), content=Content(len(TEXT), blob="MAIL"))
    (message,) = await rig.route(lost)
    assert message.queue == ACCEPTED
    assert b"Subject: hello" in message.body
    async with asyncio.timeout(5):
        while await _there(rig):
            await asyncio.sleep(0.01)


async def _there(rig: Rig) -> bool:
    try:
        await rig.store.get("MAIL")
    except ContentMissing:
        return False
    return True


async def test_a_mail_whose_blob_is_gone_is_parked(rig: Rig) -> None:
    lost = msgspec.structs.replace(mail("b@null.test"), content=Content(9, blob="nothing"))
    (message,) = await rig.route(lost)
    assert message.headers[REASON] == "content_missing"
