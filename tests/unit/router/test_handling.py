"""What becomes of each message that the router takes."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from shared.broker.interface import Outgoing
from shared.broker.parking import DETAIL, QUEUE, REASON
from shared.broker.topology import ACCEPTED, CROWD, DUE, PARKED, build_topology
from shared.messages.codec import decode, encode
from shared.messages.ids import job_id
from shared.messages.model import AcceptedMail, DeliverBy, DsnWishes, Event, MessageClass, Recipient
from shared.plan.lanes import LanePlan
from shared.plan.limits import LimitTable
from shared.settings.model import Settings
from shared.settings.shaping import LimitsSettings
from tests.unit.router.rig import (
    AGAIN,
    BULK,
    SETTINGS,
    TEXT,
    TRANSACTIONAL,
    Rig,
    job_in,
    large,
    mail,
    sample,
)


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


async def test_who_asked_is_told_once_that_the_dns_takes_long(rig: Rig) -> None:
    told = Recipient("a@down.test", "DELAY")
    asked = msgspec.structs.replace(
        mail("b@down.test"), dsn=DsnWishes(), recipients=(told, Recipient("b@down.test"))
    )
    (message,) = await rig.route(asked)
    rig.now += 29 * 60
    (message,) = await rig.route(job_in(message))
    assert job_in(message).dsn == DsnWishes()
    before = sample("dsn_total", action="delayed")
    rig.now += 60
    retry, notice = await rig.route(job_in(message), 2)
    assert (retry.queue, retry.delay_ms, notice.queue) == (DUE, 2000, ACCEPTED)
    dsn = decode(notice.body)
    assert isinstance(dsn, AcceptedMail)
    text = bytes(dsn.content.inline)
    assert (dsn.reverse_path, dsn.recipients) == ("", (Recipient("me@s.test"),))
    assert b"Final-Recipient: rfc822; a@down.test\r\nAction: delayed\r\nStatus: 4.4.3" in text
    assert b"b@down.test" not in text
    assert b"Subject: hello" in text
    assert sample("dsn_total", action="delayed") == before + 1
    (again,) = await rig.route(job_in(retry))
    assert again.queue == DUE


async def test_what_is_overdue_is_returned_whatever_its_way(rig: Rig) -> None:
    by = DeliverBy(1060.0, returns=True)
    asked = msgspec.structs.replace(mail("a@static.test", "b@down.test"), deliver_by=by)
    job, wait = await rig.route(asked, 2)
    assert (job.queue, wait.queue) == (TRANSACTIONAL, DUE)
    rig.now = 1060.0
    (notice,) = await rig.route(asked)
    dsn = decode(notice.body)
    assert isinstance(dsn, AcceptedMail)
    text = bytes(dsn.content.inline)
    assert text.count(b"Action: failed\r\nStatus: 5.4.7\r\n") == 2
    assert b"Deliver-By-Date: Thu, 01 Jan 1970 00:17:40" in text


async def test_what_waits_for_the_dns_comes_again_before_its_deadline(rig: Rig) -> None:
    await rig.router.drain()
    await rig.start(delivery=SETTINGS.delivery.model_copy(update={"retry_schedule": (600_000,)}))
    for seconds, delay_ms in ((3600, 600_000), (60, 30_000)):
        by = DeliverBy(rig.now + seconds, returns=True)
        (wait,) = await rig.route(msgspec.structs.replace(mail("b@down.test"), deliver_by=by))
        assert wait.delay_ms == delay_ms


async def test_who_set_a_deadline_is_told_once_that_it_passed(rig: Rig) -> None:
    asked = msgspec.structs.replace(mail("b@down.test"), deliver_by=DeliverBy(1060.0))
    (wait,) = await rig.route(asked)
    assert job_in(wait).deliver_by == asked.deliver_by
    rig.now = 1060.0
    retry, notice = await rig.route(asked, 2)
    assert (retry.queue, notice.queue) == (DUE, ACCEPTED)
    dsn = decode(notice.body)
    assert isinstance(dsn, AcceptedMail)
    assert b"Action: delayed\r\nStatus: 4.4.3\r\n" in bytes(dsn.content.inline)
    (again,) = await rig.route(job_in(retry))
    assert again.queue == DUE


async def test_nobody_is_told_of_the_delay_of_a_notification(rig: Rig) -> None:
    asked = msgspec.structs.replace(
        mail(reverse_path=""), dsn=DsnWishes(), recipients=(Recipient("a@down.test", "DELAY"),)
    )
    rig.now += 1800
    (message,) = await rig.route(asked)
    assert message.queue == DUE


async def test_a_job_that_is_due_takes_the_way_of_today(rig: Rig) -> None:
    (waiting,) = await rig.route(mail("a@down.test"))
    rig.authority.rcodes.clear()
    rig.authority.zone["down.test.", "MX"] = ["10 up.test."]
    due = msgspec.structs.replace(job_in(waiting), recipients=(Recipient("a@static.test"),))
    (message,) = await rig.route(due)
    job = job_in(message)
    assert (job.id, job.attempt, job.static) == (due.id, 1, True)


@pytest.mark.parametrize("due", [DUE, CROWD])
@pytest.mark.parametrize("changes", [{"attempt": 1}, {"turn": 2000.0}])
async def test_a_job_that_comes_again_goes_where_none_waits_that_comes_first(
    rig: Rig, due: str, changes: dict[str, float]
) -> None:
    (first,) = await rig.route(mail("a@static.test"))
    again = msgspec.structs.replace(job_in(first), **changes)
    await rig.broker.publish(Outgoing(due, encode(again), again.id))
    (_, message) = await rig.successors(2, 2)
    assert (message.queue, message.message_id) == (AGAIN, again.id)


async def test_what_waits_for_its_portion_goes_back_when_the_router_drains(rig: Rig) -> None:
    (first,) = await rig.route(mail("a@static.test"))
    jobs = [msgspec.structs.replace(job_in(first), id=f"job{n}", attempt=1) for n in range(50)]
    await asyncio.gather(
        *(rig.broker.publish(Outgoing(CROWD, encode(job), job.id)) for job in jobs)
    )
    await rig.router.drain()
    places = [m.message_id for queue in (AGAIN, CROWD) for m in rig.broker.waiting(queue)]
    assert sorted(places) == sorted(job.id for job in jobs)
    await rig.start()


async def test_trouble_that_lasts_too_long_is_reported(rig: Rig) -> None:
    (waiting,) = await rig.route(mail("a@down.test"))
    rig.now += 3601
    (message,) = await rig.route(job_in(waiting))
    dsn = decode(message.body)
    assert isinstance(dsn, AcceptedMail)
    assert b"4.4.7" in bytes(dsn.content.inline)


async def test_a_clock_that_jumps_does_not_expire_mail_that_was_not_tried_twice(rig: Rig) -> None:
    rig.now = 9e9
    (waiting,) = await rig.route(mail("a@down.test"))
    assert (waiting.queue, job_in(waiting).attempt) == (DUE, 1)


async def test_a_notification_that_expires_is_parked_with_its_queue(rig: Rig) -> None:
    (waiting,) = await rig.route(mail("a@down.test", reverse_path=""))
    rig.now += 3601
    (message,) = await rig.route(job_in(waiting))
    assert (message.queue, message.headers[QUEUE]) == (PARKED, DUE)
    assert "4.4.7" in message.headers[DETAIL]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x80\x04K\x01.", "undecodable"),
        (b"\x81\xa6schema\x63", "unknown_schema"),
        (encode(Event("routed", 1.0, "MAIL")), "undecodable"),
    ],
)
async def test_what_cannot_be_read_is_parked_and_the_queue_goes_on(
    rig: Rig, body: bytes, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    await rig.broker.publish(Outgoing(ACCEPTED, body, "poison"))
    routed = await rig.route(mail("a@static.test"), 2)
    parked = next(message for message in routed if message.queue == PARKED)
    assert (parked.body, parked.headers[REASON]) == (body, reason)
    assert routed[-1].queue == TRANSACTIONAL
    await rig.router.drain()
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (line,) = [line for line in told if line["event"] == "parked"]
    assert (line["job_id"], line["reason"], line["level"]) == ("poison", reason, "info")


async def test_a_notification_of_the_router_is_never_taken_for_one_of_delivery(rig: Rig) -> None:
    (message,) = await rig.route(mail("b@null.test"))
    assert message.message_id != job_id("MAIL", "dsn", 0)


async def test_many_recipients_make_jobs_of_the_size_that_is_set(rig: Rig) -> None:
    routed = await rig.route(mail(*(f"{number}@static.test" for number in range(7))), 3)
    assert [len(job_in(message).recipients) for message in routed] == [3, 3, 1]


async def test_everything_that_was_decided_is_counted(rig: Rig) -> None:
    names: list[tuple[str, dict[str, str]]] = [
        ("routed_jobs_total", {}),
        ("failures_total", {"provider": "other", "reason": "address"}),
        ("dsn_total", {"action": "failed"}),
        ("retries_total", {"step": "1s", "reason": "dns"}),
        ("parked_messages_total", {"reason": "dsn_failed"}),
        ("queue_seconds_count", {"class": "transactional", "outcome": "failed"}),
    ]
    before = [sample(name, **labels) for name, labels in names]
    await rig.route(mail("a@static.test", "b@null.test", "c@none.test", "d@down.test"), 3)
    await rig.route(mail("b@null.test", reverse_path=""))
    await rig.broker.wait_published(7)
    await rig.router.drain()
    after = [sample(name, **labels) for name, labels in names]
    grown = [int(new - old) for new, old in zip(after, before, strict=True)]
    # The notification itself goes to s.test, which does not exist: parked, and a failure too.
    assert grown == [1, 4, 1, 1, 2, 4]


async def test_who_is_given_up_counts_for_the_provider_of_the_job_if_there_is_one(rig: Rig) -> None:
    def count(provider: str) -> float:
        return sample("failures_total", provider=provider, reason="address")

    before = count("google"), count("other")
    (known,) = await rig.route(mail("a@down.test"))
    job = msgspec.structs.replace(job_in(known), recipients=(Recipient("c@none.test"),))
    for provider in ("google", "of a plan that is gone"):
        await rig.route(msgspec.structs.replace(job, provider=provider))
    await rig.router.drain()
    # The two notifications go to s.test, which does not exist, and fail as well.
    assert (count("google") - before[0], count("other") - before[1]) == (1, 3)


async def test_a_content_store_that_is_down_is_why_a_mail_is_tried_again(rig: Rig) -> None:
    before = sample("retries_total", step="1s", reason="store")
    rig.store.down = True
    await rig.route(large("c@none.test"))
    await rig.router.drain()
    assert sample("retries_total", step="1s", reason="store") == before + 1


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


async def test_a_job_says_to_which_site_it_goes(rig: Rig) -> None:
    routed = await rig.route(mail("a@static.test", "b@mx.test", "c@down.test"), 3)
    jobs = {job.destination: job for job in map(job_in, routed)}
    assert {name: (job.site, job.provider) for name, job in jobs.items()} == {
        "127.0.0.1:2500": ("127.0.0.1:2500", "other"),
        "mx.test": ("mail.mx.test", "other"),
        "down.test": ("down.test", "other"),
    }


async def test_jobs_go_where_the_plan_places_them(rig: Rig) -> None:
    lanes = [
        {"name": "otp", "match": {"classes": ["transactional"], "tenants": ["bank"]}},
        {"name": "vip", "match": {"domains": ["mx.test"]}, "partitions": 3},
        {"name": "default", "partitions": 5},
    ]
    settings = Settings.model_validate({"lanes": lanes})
    rig.broker.topology = build_topology(
        [1000, 2000], {n.name: n.partitions for n in settings.lanes}
    )
    await rig.router.drain()
    await rig.start(lanes=settings.lanes)
    plan = LanePlan(settings.lanes, LimitTable(SETTINGS.limits))
    sent = mail("a@static.test", "b@mx.test")
    for tenant, expected in (("bank", ["otp", "otp"]), ("shop", ["default", "vip"])):
        routed = await rig.route(msgspec.structs.replace(sent, tenant=tenant), 2)
        places = [plan.place(job_in(message)) for message in routed]
        assert [place.queue for place in places] == [message.queue for message in routed]
        assert [place.lane for place in places] == expected


async def test_new_limits_hold_from_the_next_mail_on(rig: Rig) -> None:
    sent = mail("a@static.test", "b@static.test", "c@static.test")
    assert len(job_in((await rig.route(sent))[0]).recipients) == 3
    rig.router.set_limits(
        LimitsSettings.model_validate(
            {
                "default": {"recipients_per_transaction": 2},
                "overrides": [{"match": {"domains": ["static.test"]}, "connections": 1}],
            }
        )
    )
    routed = [job_in(message) for message in await rig.route(sent, 2)]
    assert [len(job.recipients) for job in routed] == [2, 1]
    assert {job.site for job in routed} == {"static.test"}
