"""The delivery service between a broker in memory and scripted receivers."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from services.delivery.main import DeliveryService
from services.demo.receiver import Receiver, Script, Stage
from shared.broker.interface import Outgoing
from shared.broker.parking import REASON
from shared.broker.topology import ACCEPTED, DUE, PARKED, build_topology, lane_queue
from shared.content.store import open_store
from shared.dns.answers import AddressAnswer, Addresses, MxAnswer, NoRecords
from shared.messages.codec import decode, encode
from shared.messages.model import (
    AcceptedMail,
    Content,
    DeliveryJob,
    MailExchanger,
    Recipient,
)
from shared.settings.model import (
    ContentStoreSettings,
    DeliverySettings,
    MetricsSettings,
    Settings,
)
from shared.settings.shaping import LaneSettings, LimitsSettings, SiteLimits
from shared.settings.telling import EventSettings
from shared.smtp.replies import Reply
from shared.tracing.tracer import Tracer
from tests.support.memory_broker import MemoryBroker

TOPOLOGY = build_topology([1000], {"default": 1}, events=True)
ONE_PARTITION = (LaneSettings(name="default", partitions=1),)
LANE = lane_queue("default", 0, "transactional")
TEXT = b"Subject: x\r\n\r\n.dot\r\n..two\r\nbody\r\n"
LATER = Reply(451, "4.3.0", "Later")
NEVER = Reply(550, "5.7.1", "Never")


class Loopback:
    """Every host is this machine."""

    async def mail_exchangers(self, domain: str) -> MxAnswer:
        return NoRecords()

    async def addresses(self, host: str) -> AddressAnswer:
        return Addresses(("127.0.0.1",))


class Rig:
    def __init__(
        self,
        receiver: Receiver,
        broker: MemoryBroker,
        settings: Settings,
        tracer: Tracer | None = None,
    ) -> None:
        self.receiver, self.broker = receiver, broker
        self._numbers = itertools.count(1)
        self.store = open_store(settings.content_store)
        self.service = DeliveryService(settings, broker, Loopback(), self.store, tracer=tracer)

    def job(self, *recipients: str, **changes: object) -> DeliveryJob:
        fields: dict[str, object] = {
            "id": f"job{next(self._numbers)}",
            "mail_id": "mail",
            "accepted_at": time.time(),
            "reverse_path": "s@a.test",
            "recipients": tuple(map(Recipient, recipients or ("r@b.test",))),
            "content": Content(len(TEXT), memoryview(TEXT)),
            "destination": "b.test",
            "exchangers": (MailExchanger(10, "mx.b.test", self.receiver.port),),
            "static": True,
            "site": "b.test",
        }
        return DeliveryJob(**{**fields, **changes})  # type: ignore[arg-type]

    async def give(self, job: DeliveryJob) -> None:
        await self.broker.publish(Outgoing(LANE, encode(job), job.id))

    async def successors(self, job: DeliveryJob, count: int = 1) -> Sequence[Outgoing]:
        """Whatever follows the job."""
        await self.give(job)
        return (await self.broker.wait_published(count + 1))[1:]


@asynccontextmanager
async def rig(
    tmp_path: Path,
    script: Script | None = None,
    tls: ssl.SSLContext | None = None,
    tracer: Tracer | None = None,
    **keys: Any,
) -> AsyncIterator[Rig]:
    limits = {key: keys.pop(key) for key in tuple(keys) if key in SiteLimits.model_fields}
    domains = keys.pop("domains", ())
    settings = Settings(
        events=EventSettings.model_validate(keys.pop("events", {})),
        metrics=MetricsSettings(domains=domains),
        content_store=ContentStoreSettings(url=f"file://{tmp_path}"),
        delivery=DeliverySettings.model_validate(
            {"retry_schedule": "1s", "heartbeat": "200ms", **keys}
        ),
        lanes=ONE_PARTITION,
        limits=at_most(**limits),
    )
    async with Receiver(script, tls=tls) as receiver:
        one = Rig(receiver, MemoryBroker(TOPOLOGY), settings, tracer)
        await one.broker.start()
        await one.service.start()
        try:
            yield one
        finally:
            async with asyncio.timeout(5):
                await one.service.drain()
            await one.broker.close()


def at_most(**limits: float) -> LimitsSettings:
    """These limits for every site."""
    return LimitsSettings(default=SiteLimits.model_validate(limits))


def retried(message: Outgoing) -> DeliveryJob:
    assert message.queue == DUE
    assert message.delay_ms == 1000
    job = decode(message.body)
    assert isinstance(job, DeliveryJob)
    return job


@pytest.mark.parametrize("hidden", [frozenset[str](), frozenset({"PIPELINING"})])
async def test_the_content_arrives_unchanged(tmp_path: Path, hidden: frozenset[str]) -> None:
    async with rig(tmp_path, Script(hidden=hidden)) as r:
        await r.give(r.job("r@b.test", "t@b.test"))
        (mail,) = await r.receiver.wait_for(1)
        assert mail.content == TEXT
        assert mail.recipients == ("r@b.test", "t@b.test")
        assert mail.reverse_path == "s@a.test"


async def test_a_job_that_a_former_release_put_with_those_that_come_first_is_sent(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as r:
        await r.give(r.job(attempt=1))
        await r.receiver.wait_for(1)
        assert len(r.broker.published) == 1


async def test_large_content_comes_from_the_store_which_then_forgets_it(tmp_path: Path) -> None:
    text = b"Subject: x\r\n\r\n" + b".line of a large mail\r\n" * 100_000
    async with rig(tmp_path) as r:
        await r.store.put("aa/mail", text)
        await r.give(r.job(content=Content(len(text), blob="aa/mail")))
        (mail,) = await r.receiver.wait_for(1)
        assert mail.content == text
        await r.service.drain()
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_a_missing_blob_parks_the_job(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        (parked,) = await r.successors(r.job(content=Content(5, blob="aa/none")))
        assert (parked.queue, parked.headers[REASON]) == (PARKED, "content_missing")


async def test_a_bare_line_feed_parks_the_job(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        text = b"a\n.\r\nMAIL FROM:<x@y>\r\n"
        (parked,) = await r.successors(r.job(content=Content(len(text), memoryview(text))))
        assert (parked.queue, parked.headers[REASON]) == (PARKED, "unsafe_content")
        assert r.receiver.connections == 0


@pytest.mark.parametrize("hidden", [frozenset[str](), frozenset({"PIPELINING"})])
async def test_each_recipient_has_an_outcome_of_its_own(
    tmp_path: Path, hidden: frozenset[str]
) -> None:
    script = Script(recipients={"later@": LATER}, refused=frozenset({"no@"}), hidden=hidden)
    async with rig(tmp_path, script) as r:
        later, dsn = await r.successors(r.job("yes@b.test", "later@b.test", "no@b.test"), 2)
        assert r.receiver.messages[0].recipients == ("yes@b.test",)
        assert retried(later).recipients == (Recipient("later@b.test"),)
        assert retried(later).attempt == 1
        notification = decode(dsn.body)
        assert dsn.queue == ACCEPTED
        assert isinstance(notification, AcceptedMail)
        assert notification.reverse_path == ""
        assert b"no@b.test" in bytes(notification.content.inline)
        assert b"yes@b.test" not in bytes(notification.content.inline)


@pytest.mark.parametrize("hidden", [frozenset[str](), frozenset({"PIPELINING"})])
@pytest.mark.parametrize(
    "stage", [Stage.BANNER, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT]
)
async def test_a_transient_reply_at_any_stage_is_tried_again(
    tmp_path: Path, stage: Stage, hidden: frozenset[str]
) -> None:
    async with rig(tmp_path, Script(replies={stage: LATER}, hidden=hidden)) as r:
        (later,) = await r.successors(r.job())
        assert retried(later).recipients == (Recipient("r@b.test"),)


@pytest.mark.parametrize("stage", [Stage.BANNER, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
async def test_a_permanent_reply_at_any_stage_is_notified(tmp_path: Path, stage: Stage) -> None:
    async with rig(tmp_path, Script(replies={stage: NEVER})) as r:
        (dsn,) = await r.successors(r.job())
        assert dsn.queue == ACCEPTED


@pytest.mark.parametrize(
    "stage", [Stage.BANNER, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT]
)
async def test_a_connection_dropped_at_any_stage_is_tried_again(
    tmp_path: Path, stage: Stage
) -> None:
    async with rig(tmp_path, Script(drop_at=frozenset({stage}))) as r:
        (later,) = await r.successors(r.job())
        assert retried(later).attempt == 1


async def test_a_drop_after_the_dot_is_not_tried_at_the_next_exchanger(tmp_path: Path) -> None:
    async with (
        rig(tmp_path, Script(drop_at=frozenset({Stage.DOT}))) as r,
        Receiver() as worse,
    ):
        exchangers = tuple(
            MailExchanger(n, "mx.b.test", one.port) for n, one in enumerate((r.receiver, worse))
        )
        retried((await r.successors(r.job(exchangers=exchangers)))[0])
        assert len(r.receiver.unanswered) == 1
        assert worse.connections == 0


@pytest.mark.parametrize("reply", [LATER, NEVER])
async def test_a_refusing_banner_leads_to_the_next_exchanger(tmp_path: Path, reply: Reply) -> None:
    async with rig(tmp_path, Script(replies={Stage.BANNER: reply})) as r, Receiver() as worse:
        exchangers = tuple(
            MailExchanger(n, "mx.b.test", one.port) for n, one in enumerate((r.receiver, worse))
        )
        await r.give(r.job(exchangers=exchangers))
        await worse.wait_for(1)


async def test_after_421_the_next_job_has_a_new_connection(tmp_path: Path) -> None:
    script = Script(replies={Stage.RCPT: Reply(421, "4.3.2", "Closing")})
    async with rig(tmp_path, script) as r:
        retried((await r.successors(r.job()))[0])
        r.receiver.script = Script()
        await r.give(r.job())
        await r.receiver.wait_for(1)
        assert r.receiver.connections == 2


async def test_a_connection_serves_several_jobs_and_survives_refusals(tmp_path: Path) -> None:
    script = Script(refused=frozenset({"no@"}))
    async with rig(tmp_path, script, connections=1) as r:
        for address in ("a@b.test", "no@b.test", "c@b.test"):
            await r.give(r.job(address))
        await r.receiver.wait_for(2)
        assert r.receiver.connections == 1


async def test_a_connection_is_closed_after_its_number_of_messages(tmp_path: Path) -> None:
    async with rig(tmp_path, connections=1, messages_per_connection=1) as r:
        await r.give(r.job())
        await r.give(r.job())
        await r.receiver.wait_for(2)
        assert r.receiver.connections == 2


async def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    async with rig(tmp_path, idle_timeout="20ms") as r:
        await r.give(r.job())
        await r.receiver.wait_for(1)
        await r.receiver.wait_for(lambda: not r.receiver.open_connections)


async def test_a_late_reply_is_tried_again(tmp_path: Path) -> None:
    script = Script(delays={Stage.MAIL: 60.0})
    async with rig(tmp_path, script, timeouts={"mail": "50ms"}) as r:
        assert retried((await r.successors(r.job()))[0]).attempt == 1


async def test_an_endless_reply_is_tried_again(tmp_path: Path) -> None:
    async with rig(tmp_path, Script(endless=frozenset({Stage.MAIL}))) as r:
        assert retried((await r.successors(r.job()))[0]).attempt == 1


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.b.test").configure_cert(context)
    return context


async def test_starttls_is_used_when_offered(tmp_path: Path) -> None:
    async with rig(tmp_path, tls=server_tls()) as r:
        await r.give(r.job())
        assert (await r.receiver.wait_for(1))[0].tls


@pytest.mark.parametrize(
    "script",
    [
        Script(replies={Stage.STARTTLS: Reply(454, "4.7.0", "Not now")}),
        Script(drop_at=frozenset({Stage.STARTTLS})),
        Script(after_starttls=b"250 injected\r\n"),
    ],
)
async def test_a_failing_handshake_is_followed_by_clear_text(
    tmp_path: Path, script: Script
) -> None:
    async with rig(tmp_path, script, tls=server_tls()) as r:
        await r.give(r.job())
        assert not (await r.receiver.wait_for(1))[0].tls
        assert r.receiver.connections == 2


async def test_a_failing_notification_is_parked_and_never_answered(tmp_path: Path) -> None:
    async with rig(tmp_path, Script(refused=frozenset({"r@"}))) as r:
        (parked,) = await r.successors(r.job(reverse_path=""))
        assert (parked.queue, parked.headers[REASON]) == (PARKED, "dsn_failed")


async def test_a_private_address_out_of_dns_is_refused(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        (dsn,) = await r.successors(r.job(static=False))
        assert dsn.queue == ACCEPTED
        assert b"5.4.4" in dsn.body
        assert r.receiver.connections == 0


async def test_a_private_address_out_of_dns_can_be_allowed(tmp_path: Path) -> None:
    async with rig(tmp_path, allow_private_addresses=True) as r:
        await r.give(r.job(static=False))
        await r.receiver.wait_for(1)


async def test_an_old_job_expires_with_a_notification(tmp_path: Path) -> None:
    async with rig(tmp_path, Script(replies={Stage.MAIL: LATER})) as r:
        (dsn,) = await r.successors(r.job(accepted_at=1.0, attempt=5))
        assert dsn.queue == ACCEPTED
        assert b"4.4.7" in dsn.body


async def test_smtputf8_mail_fails_where_it_is_not_offered(tmp_path: Path) -> None:
    async with rig(tmp_path, Script(hidden=frozenset({"SMTPUTF8"}))) as r:
        (dsn,) = await r.successors(r.job("é@b.test", smtputf8=True))
        assert b"5.6.7" in dsn.body


async def test_parameters_go_only_to_those_who_offer_them(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.give(r.job(eight_bit=True))
        (mail,) = await r.receiver.wait_for(1)
        assert mail.mail_parameters == (f"SIZE={len(TEXT)}", "BODY=8BITMIME")
    async with rig(tmp_path, Script(hidden=frozenset({"SIZE", "8BITMIME"}))) as r:
        await r.give(r.job(eight_bit=True))
        (mail,) = await r.receiver.wait_for(1)
        assert mail.mail_parameters == ()


async def test_bytes_that_are_no_job_are_parked(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.broker.publish(Outgoing(LANE, b"\xc1", "x"))
        parked = (await r.broker.wait_published(2))[1]
        assert (parked.queue, parked.headers[REASON]) == (PARKED, "undecodable")


async def test_draining_finishes_what_began_and_gives_the_rest_back(tmp_path: Path) -> None:
    script = Script(delays={Stage.DOT: 0.1})
    async with rig(tmp_path, script, connections=1) as r:
        await r.give(r.job())
        await r.give(r.job("waiting@b.test"))
        await r.receiver.wait_for(lambda: any(b"DATA" in raw for raw in r.receiver.raw))
        await r.service.drain()
        assert len(r.receiver.messages) == 1
        assert len(r.broker.waiting(LANE)) == 1
        assert r.receiver.open_connections == 0
