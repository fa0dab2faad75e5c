"""The router as a process has it: embedded broker, a real DNS server, contents in a folder."""

from __future__ import annotations

import asyncio
import email
import email.policy
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.rcode
import pytest

from services.router.main import build
from shared.broker.connect import connect_broker
from shared.broker.interface import Broker, Consumer, Delivery, Outgoing
from shared.broker.topology import ACCEPTED, DUE, PARKED, lane_queue
from shared.messages.codec import decode, encode
from shared.messages.ids import mail_id
from shared.messages.model import AcceptedMail, Content, DeliveryJob, Recipient
from shared.service import Service
from shared.settings.model import DnsSettings, Settings
from tests.support.dns_authority import DnsAuthority, Zone, serving

LANE = lane_queue("default", 0, "transactional")
AGAIN = lane_queue("default", 0, "transactional", again=True)
TEXT = b"Subject: hello\r\n\r\nbody\r\n"
MAIL = mail_id(1000, bytes(10))


def zone() -> Zone:
    return {
        ("mx.test.", "MX"): ["10 one.mx.test.", "20 two.mx.test."],
        ("plain.test.", "A"): ["192.0.2.7"],
        ("null.test.", "MX"): ["0 ."],
        ("bare.test.", "TXT"): ['"no mail here"'],
        ("down.test.", "MX"): ["10 up.down.test."],
        ("self.test.", "MX"): ["10 mta.test.", "20 other.test."],
        ("sender.test.", "MX"): ["10 mx.sender.test."],
    }


class World:
    """DNS, a folder with queues and contents, and a look at what the router made."""

    def __init__(self, folder: Path, authority: DnsAuthority, asked: DnsSettings) -> None:
        self.authority = authority
        self.settings = Settings.model_validate(
            {
                "hostname": "mta.test",
                "broker": {"url": f"embedded://{folder}/queues"},
                "content_store": {"url": f"file://{folder}/content"},
                "dns": asked.model_dump(),
                "router": {"routes": [{"domains": ["static.test"], "hosts": ["127.0.0.1:2500"]}]},
                "lanes": [{"name": "default", "partitions": 1}],
                "delivery": {"retry_schedule": ["500ms"], "max_age": "1h"},
            }
        )

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[Broker]:
        broker = connect_broker(self.settings, "test")
        await broker.start()
        await broker.wait_usable(10)
        try:
            yield broker
        finally:
            await broker.close()

    @asynccontextmanager
    async def router(self, broker: Broker) -> AsyncIterator[Service]:
        service = build(self.settings, broker)
        await service.start()
        yield service
        await asyncio.wait_for(service.drain(), 10)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    authority = DnsAuthority(zone())
    async with serving(authority) as asked:
        yield World(tmp_path, authority, asked)


class Looker:
    """Takes everything that comes to some queues."""

    def __init__(self, broker: Broker, *queues: str) -> None:
        self.found: defaultdict[str, list[Delivery]] = defaultdict(list)
        self._changed = asyncio.Event()
        self._consumers: list[Consumer] = [
            broker.consume(queue, 100, self._take) for queue in queues
        ]

    def _take(self, delivery: Delivery) -> None:
        self.found[delivery.queue].append(delivery)
        delivery.ack()
        self._changed.set()

    async def jobs(self, queue: str, count: int) -> list[DeliveryJob]:
        """The jobs of a queue once there are `count`."""
        async with asyncio.timeout(15):
            while len(self.found[queue]) < count:
                self._changed.clear()
                await self._changed.wait()
        messages = [decode(delivery.body) for delivery in self.found[queue]]
        return [message for message in messages if isinstance(message, DeliveryJob)]


def mail(*addresses: str, reverse_path: str = "me@sender.test") -> Outgoing:
    recipients = tuple(map(Recipient, addresses))
    content = Content(len(TEXT), memoryview(TEXT))
    return Outgoing(
        ACCEPTED, encode(AcceptedMail(MAIL, 1.0, reverse_path, recipients, content)), MAIL
    )


async def test_every_recipient_takes_its_way_and_the_sender_hears_of_the_rest(world: World) -> None:
    failing = ["a@null.test", "a@none.test", "a@bare.test", "a@self.test", "a@two..dots"]
    fine = ["a@static.test", "a@mx.test", "b@mx.test", "a@plain.test", "a@[192.0.2.9]"]
    async with world.broker() as broker, world.router(broker):
        looker = Looker(broker, LANE)
        await broker.publish(mail(*fine, *failing))
        jobs = {job.destination: job for job in await looker.jobs(LANE, 5)}

    hosts = {name: [each.host for each in job.exchangers] for name, job in jobs.items()}
    assert hosts == {
        "127.0.0.1:2500": ["127.0.0.1"],
        "mx.test": ["one.mx.test", "two.mx.test"],
        "plain.test": ["plain.test"],
        "[192.0.2.9]": ["192.0.2.9"],
        "sender.test": ["mx.sender.test"],
    }
    assert [name for name, job in jobs.items() if job.static] == ["127.0.0.1:2500"]
    assert [r.address for r in jobs["mx.test"].recipients] == ["a@mx.test", "b@mx.test"]
    notification = jobs["sender.test"]
    assert (notification.reverse_path, notification.mail_id == MAIL) == ("", False)
    assert statuses(notification) == dict(
        zip(failing, ["5.1.10", "5.1.2", "5.4.4", "5.4.6", "5.1.3"], strict=True)
    )


def statuses(job: DeliveryJob) -> dict[str, str]:
    message = email.message_from_bytes(bytes(job.content.inline), policy=email.policy.default)
    report = list(message.iter_parts())[1]
    groups = list(report.iter_parts())[1:]
    return {group["Final-Recipient"].removeprefix("rfc822; "): group["Status"] for group in groups}


async def test_a_notification_that_cannot_go_anywhere_ends_in_the_parking_queue(
    world: World,
) -> None:
    async with world.broker() as broker, world.router(broker):
        looker = Looker(broker, PARKED)
        await broker.publish(mail("a@null.test", reverse_path="me@none.test"))
        (parked,) = await looker.jobs(PARKED, 1)
    assert [recipient.address for recipient in parked.recipients] == ["me@none.test"]
    assert looker.found[PARKED][0].headers["x-postroad-reason"] == "dsn_failed"


async def test_mail_waits_out_trouble_of_the_dns_and_then_goes_its_way(world: World) -> None:
    world.authority.rcodes["down.test."] = dns.rcode.SERVFAIL
    async with world.broker() as broker:
        looker = Looker(broker, LANE, AGAIN)
        async with world.router(broker):
            await broker.publish(mail("a@down.test", "a@static.test"))
            await looker.jobs(LANE, 1)
        world.authority.rcodes.clear()
        # A new process, which remembers no trouble: the job waited for it on the ladder.
        async with world.router(broker):
            (first,), (later,) = await looker.jobs(LANE, 1), await looker.jobs(AGAIN, 1)
    assert (first.destination, first.attempt) == ("127.0.0.1:2500", 0)
    assert (later.destination, later.attempt > 0) == ("down.test", True)
    assert [exchanger.host for exchanger in later.exchangers] == ["up.down.test"]


async def test_a_router_that_leaves_without_settling_leaves_the_mail_to_the_next(
    world: World,
) -> None:
    world.authority.silent.add("mx.test.")
    async with world.broker() as broker:
        service = build(world.settings, broker)
        await service.start()
        await broker.publish(mail("a@mx.test"))
        await until_asked(world)
    await asyncio.wait_for(service.drain(), 10)
    world.authority.silent.clear()
    async with world.broker() as broker, world.router(broker):
        looker = Looker(broker, LANE, DUE)
        (job,) = await looker.jobs(LANE, 1)
    assert [recipient.address for recipient in job.recipients] == ["a@mx.test"]
    assert looker.found[DUE] == []


async def test_what_was_queued_under_a_former_plan_is_routed_under_the_new_one(
    world: World,
) -> None:
    new = world.settings
    former = Settings.model_validate(
        {
            "lanes": [
                {"name": "gone", "match": {"domains": ["mx.test"]}, "partitions": 5},
                {"name": "default", "partitions": 7},
            ]
        }
    )
    world.settings = new.model_copy(update={"lanes": former.lanes})
    async with world.broker() as broker, world.router(broker):
        await broker.publish(mail("a@mx.test", "b@plain.test", "c@static.test"))
        async with asyncio.timeout(10):
            while sum((await broker.depths()).values()) < 3:
                await asyncio.sleep(0.01)
    world.settings = new
    async with world.broker() as broker, world.router(broker):
        jobs = await Looker(broker, LANE).jobs(LANE, 3)
    assert {job.destination: job.attempt for job in jobs} == {
        "mx.test": 0,
        "plain.test": 0,
        "127.0.0.1:2500": 0,
    }


async def until_asked(world: World) -> None:
    async with asyncio.timeout(10):
        while not world.authority.queries:
            await asyncio.sleep(0)
