"""The router on a broker in memory, with a real DNS server and a real content store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import dns.rcode
import msgspec
import pytest
from prometheus_client import REGISTRY

from services.router.handling import Router
from shared.broker.interface import Outgoing, Refused
from shared.broker.parking import DETAIL, QUEUE, REASON
from shared.broker.topology import ACCEPTED, DUE, PARKED, build_topology, lane_queue
from shared.content.interface import ContentMissing, ContentStore, ContentUnavailable
from shared.content.store import open_store
from shared.dns.answers import AddressAnswer, MxAnswer
from shared.dns.resolver import DnspythonResolver
from shared.logs import configure_logging
from shared.messages.codec import decode, encode
from shared.messages.ids import job_id
from shared.messages.model import (
    AcceptedMail,
    Content,
    DeliveryJob,
    Event,
    MessageClass,
    Recipient,
)
from shared.settings.model import DnsSettings, LoggingSettings, Settings
from tests.support.dns_authority import DnsAuthority, serving
from tests.support.log_state import log_state_kept
from tests.support.memory_broker import MemoryBroker

TRANSACTIONAL = lane_queue("default", "transactional")
BULK = lane_queue("default", "bulk")
TEXT = b"Subject: hello\r\n\r\nbody\r\n"
SETTINGS = Settings.model_validate(
    {
        "hostname": "mta.test",
        "router": {
            "routes": [{"domains": ["static.test"], "hosts": ["127.0.0.1:2500"]}],
            "recipients_per_job": 3,
            "prefetch": 4,
        },
        "delivery": {"retry_schedule": ["1s", "2s"], "max_age": "1h"},
    }
)


class MoodyStore:
    """A content store that can be down, and ends no share before `answers` is set."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self.down = False
        self.answers = asyncio.Event()
        self.answers.set()

    def _check(self) -> None:
        if self.down:
            raise ContentUnavailable("no answer")

    async def put(self, name: str, data: bytes) -> None:
        self._check()
        await self._store.put(name, data)

    async def get(self, name: str) -> memoryview:
        self._check()
        return await self._store.get(name)

    async def end_share(self, name: str, share: Fraction, job_id: str) -> None:
        await self.answers.wait()
        self._check()
        await self._store.end_share(name, share, job_id)


class Rig:
    """A router at work; `now` is its clock."""

    def __init__(self, authority: DnsAuthority, root: Path) -> None:
        self.authority = authority
        self.broker = MemoryBroker(build_topology([1000, 2000]))
        self.folder = root / "content"
        url = f"file://{self.folder}"
        settings = SETTINGS.content_store.model_copy(update={"url": url})
        self.store = MoodyStore(open_store(settings))
        self.now = 1000.0
        self.router: Router

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
    with log_state_kept():
        configure_logging(LoggingSettings(format="json"), "router")
        async with serving(authority) as settings:
            yield await started(rig, settings)
            rig.broker.resume()
            await rig.router.drain()


async def started(rig: Rig, settings: DnsSettings) -> Rig:
    resolver = DnspythonResolver(settings)
    rig.router = Router(SETTINGS, rig.broker, resolver, rig.store, lambda: rig.now)
    await rig.router.start()
    return rig


async def is_there(rig: Rig, blob: str = "MAIL") -> bool:
    try:
        await rig.store.get(blob)
    except ContentMissing:
        return False
    return True


def mail(*addresses: str, reverse_path: str = "me@s.test") -> AcceptedMail:
    content = Content(len(TEXT), memoryview(TEXT))
    return AcceptedMail("MAIL", 1000.0, reverse_path, tuple(map(Recipient, addresses)), content)


def large(*addresses: str, reverse_path: str = "me@s.test", blob: str = "MAIL") -> AcceptedMail:
    content = Content(len(TEXT), blob=blob)
    return msgspec.structs.replace(mail(*addresses, reverse_path=reverse_path), content=content)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"postroad_{name}", labels) or 0.0


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


async def test_a_clock_that_jumps_does_not_expire_mail_that_was_not_tried_twice(rig: Rig) -> None:
    rig.now = 9e9
    (waiting,) = await rig.route(mail("a@down.test"))
    assert (waiting.queue, job_in(waiting).attempt) == (DUE, 1)


async def test_a_notification_that_expires_is_parked_with_its_queue(rig: Rig) -> None:
    (waiting,) = await rig.route(mail("a@down.test", reverse_path=""))
    rig.now += 3601
    routed = await rig.route(job_in(waiting), 3)
    assert (routed[2].queue, routed[2].headers[QUEUE]) == (PARKED, DUE)
    assert "4.4.7" in routed[2].headers[DETAIL]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x80\x04K\x01.", "undecodable"),
        (b"\x81\xa6schema\x63", "unknown_schema"),
        (encode(Event("routed", 1.0, "MAIL")), "undecodable"),
    ],
)
async def test_what_cannot_be_read_is_parked_and_the_queue_goes_on(
    rig: Rig, body: bytes, reason: str
) -> None:
    await rig.broker.publish(Outgoing(ACCEPTED, body, "poison"))
    routed = await rig.route(mail("a@static.test"), 3)
    parked = next(message for message in routed if message.queue == PARKED)
    assert (parked.body, parked.headers[REASON]) == (body, reason)
    assert routed[-1].queue == TRANSACTIONAL


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
    again = await rig.route(first, 9)
    assert sorted(message.message_id for message in again[5:9]) == sorted(ids)
    assert len(set(ids)) == 4


async def test_a_notification_of_the_router_is_never_taken_for_one_of_delivery(rig: Rig) -> None:
    (message,) = await rig.route(mail("b@null.test"))
    assert message.message_id != job_id("MAIL", "dsn", 0)


async def test_many_recipients_make_jobs_of_the_size_that_is_set(rig: Rig) -> None:
    routed = await rig.route(mail(*(f"{number}@static.test" for number in range(7))), 3)
    assert [len(job_in(message).recipients) for message in routed] == [3, 3, 1]


async def test_the_router_holds_no_more_than_its_prefetch(rig: Rig) -> None:
    before = sample("in_flight_jobs")
    body = encode(mail("a@static.test"))
    sent = [rig.broker.publish(Outgoing(ACCEPTED, body, str(number))) for number in range(6)]
    rig.broker.soon()
    await sent[0]
    rig.broker.stall()
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
    await rig.route(large("b@null.test"))
    drained = asyncio.ensure_future(rig.router.drain())
    for _ in range(5):
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
    routed = await rig.broker.wait_published(4)
    direct = await rig.route(sent, 6)
    assert [m.message_id for m in routed[2:4]] == [m.message_id for m in direct[4:6]]
    assert [message.queue for message in routed[2:4]] == [TRANSACTIONAL, ACCEPTED]


async def test_everything_that_was_decided_is_counted(rig: Rig) -> None:
    names: list[tuple[str, dict[str, str]]] = [
        ("routed_jobs_total", {}),
        ("failures_total", {"reason": "address"}),
        ("dsn_total", {"action": "failed"}),
        ("retries_total", {"step": "1s"}),
        ("parked_messages_total", {"reason": "dsn_failed"}),
        ("queue_seconds_count", {"outcome": "failed"}),
    ]
    before = [sample(name, **labels) for name, labels in names]
    await rig.route(mail("a@static.test", "b@null.test", "c@none.test", "d@down.test"), 3)
    await rig.route(mail("b@null.test", reverse_path=""), 5)
    await rig.router.drain()
    after = [sample(name, **labels) for name, labels in names]
    grown = [int(new - old) for new, old in zip(after, before, strict=True)]
    # The notification itself goes to s.test, which does not exist: parked, and a failure too.
    assert grown == [1, 4, 1, 1, 2, 4]


async def test_each_change_of_custody_is_a_line_in_the_log(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    await rig.route(mail("a@static.test", "b@null.test", "c@down.test"), 3)
    await rig.router.drain()
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    told = [(e["event"], e["mail_id"], e.get("recipients")) for e in events]
    assert told[:4] == [
        ("routed", "MAIL", None),
        ("deferred", "MAIL", ["c@down.test"]),
        ("dsn", "MAIL", None),
        ("failed", "MAIL", ["b@null.test"]),
    ]
    assert "body" not in str(events)


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
