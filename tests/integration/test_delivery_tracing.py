"""What is told of an attempt, in its span and in the log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.demo.receiver import Script, Stage
from shared.broker.interface import Outgoing
from shared.broker.topology import ACCEPTED, DUE, PARKED, lane_queue
from shared.logs import configure_logging
from shared.messages.codec import decode, encode
from shared.messages.model import AcceptedMail, Content, DeliveryJob, MailExchanger
from shared.settings.model import LoggingSettings, LogLevel
from shared.tracing.tracer import Kind
from tests.integration.test_delivery import LANE, LATER, NEVER, TEXT, rig
from tests.integration.test_delivery_tls import server_context
from tests.support.log_state import log_state_kept
from tests.support.pipeline import free_port
from tests.support.spans import KeptSpans, Seen

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def spans() -> KeptSpans:
    return KeptSpans("delivery")


@pytest.fixture
def _logged() -> Iterator[None]:
    with log_state_kept():
        configure_logging(LoggingSettings(format="json", level=LogLevel.DEBUG), "delivery")
        yield


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    found = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    return [line for line in found if line.keys() & {"mail_id", "job_id"}]


async def only(spans: KeptSpans) -> Seen:
    (span,) = await spans.all()
    return span


async def test_a_delivery_is_a_span_below_that_of_its_routing(
    tmp_path: Path, spans: KeptSpans
) -> None:
    before = time.time()
    async with rig(tmp_path, tracer=spans.tracer) as r:
        await r.give(r.job("a@b.test", "b@b.test", traceparent=PARENT, provider="google"))
        await r.receiver.wait_for(1)
        port = r.receiver.port
    span = await only(spans)

    assert (span.name, span.error) == ("attempt", "")
    assert (span.trace_id, span.parent_id) == (PARENT[3:35], PARENT[36:52])
    assert before - 0.1 <= span.began <= span.ended <= time.time()
    assert span.attributes == {
        "messaging.operation.type": "process",
        "messaging.destination.name": LANE,
        "messaging.message.id": "job1",
        "messaging.message.body.size": len(TEXT),
        "network.protocol.name": "smtp",
        "network.peer.address": "127.0.0.1",
        "server.address": "mx.b.test",
        "server.port": port,
        "postroad.mail_id": "mail",
        "postroad.job_id": "job1",
        "postroad.attempt": 1,
        "postroad.destination": "b.test",
        "postroad.site": "b.test",
        "postroad.provider": "google",
        "postroad.recipients": 2,
        "postroad.recipients.delivered": 2,
        "postroad.outcome": "delivered",
        "postroad.reply.code": 250,
        "postroad.reply.enhanced": "2.0.0",
    }


async def test_each_transaction_of_a_connection_is_an_attempt_of_its_own(
    tmp_path: Path, spans: KeptSpans
) -> None:
    async with rig(tmp_path, tracer=spans.tracer, connections=1) as r:
        for _ in range(3):
            await r.give(r.job(traceparent=PARENT))
        await r.receiver.wait_for(3)
        assert r.receiver.connections == 1
    found = await spans.all()

    assert [one.attributes["server.address"] for one in found] == ["mx.b.test"] * 3
    assert all(one.began <= one.ended for one in found)


async def test_an_attempt_begins_with_its_first_step(tmp_path: Path, spans: KeptSpans) -> None:
    script = Script(delays={Stage.BANNER: 0.2, Stage.DOT: 0.2})
    async with rig(tmp_path, script, tracer=spans.tracer) as r:
        await r.give(r.job(traceparent=PARENT))
        await r.receiver.wait_for(1)
    span = await only(spans)

    assert span.ended - span.began > 0.35


async def test_tls_is_told_of(tmp_path: Path, spans: KeptSpans) -> None:
    async with rig(tmp_path, tls=server_context(), tracer=spans.tracer) as r:
        await r.give(r.job(traceparent=PARENT))
        await r.receiver.wait_for(1)
    told = (await only(spans)).attributes

    assert (told["tls.protocol.name"], told["tls.protocol.version"]) == ("tls", "1.3")
    assert (told["tls.resumed"], str(told["tls.cipher"])[:4]) == (False, "TLS_")


async def test_of_several_outcomes_the_first_that_is_not_delivered_is_told(
    tmp_path: Path, spans: KeptSpans
) -> None:
    script = Script(recipients={"no@b.test": NEVER, "later@b.test": LATER})
    async with rig(tmp_path, script, tracer=spans.tracer) as r:
        job = r.job("yes@b.test", "no@b.test", "later@b.test", traceparent=PARENT)
        retry, dsn = sorted(await r.successors(job, 2), key=lambda one: one.queue != DUE)
    span = await only(spans)

    told = span.attributes
    assert (span.error, told["postroad.outcome"]) == ("failed", "failed")
    assert (told["postroad.reply.code"], told["postroad.reason"]) == (550, "policy")
    for outcome in ("delivered", "failed", "deferred"):
        assert told[f"postroad.recipients.{outcome}"] == 1
    again, notification = decode(retry.body), decode(dsn.body)
    assert isinstance(again, DeliveryJob)
    assert isinstance(notification, AcceptedMail)
    assert again.traceparent == notification.traceparent == PARENT


async def test_where_nobody_answers_there_is_no_server(tmp_path: Path, spans: KeptSpans) -> None:
    async with rig(tmp_path, tracer=spans.tracer) as r:
        nobody = (MailExchanger(10, "mx.b.test", free_port()),)
        await r.successors(r.job(traceparent=PARENT, exchangers=nobody))
    span = await only(spans)

    assert (span.error, span.attributes["postroad.reason"]) == ("deferred", "connect")
    assert "server.address" not in span.attributes


@pytest.mark.parametrize("traceparent", ["", PARENT[:-1] + "0", "nonsense"])
async def test_a_job_that_is_not_traced_has_no_span(
    tmp_path: Path, spans: KeptSpans, traceparent: str
) -> None:
    async with rig(tmp_path, tracer=spans.tracer) as r:
        await r.give(r.job(traceparent=traceparent))
        await r.receiver.wait_for(1)

    assert await spans.all() == []


class Broken:
    """A tracer that breaks its word."""

    def begin(self, name: str, kind: Kind, at: float, parent: str = "") -> None:
        raise RuntimeError("no span")

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_tracer_that_fails_costs_no_mail(tmp_path: Path) -> None:
    async with rig(tmp_path, Script(recipients={"later@b.test": LATER}), tracer=Broken()) as r:
        (retry,) = await r.successors(r.job("a@b.test", "later@b.test", traceparent=PARENT))
        assert retry.queue == DUE
        await r.give(r.job(traceparent=PARENT))
        await r.receiver.wait_for(2)
    assert len(r.broker.published) == 3


@pytest.mark.usefixtures("_logged")
async def test_a_job_that_is_given_back_is_told_of_to_who_debugs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with rig(tmp_path) as r:
        other = lane_queue("default", 0, "bulk")
        await r.broker.publish(Outgoing(other, encode(r.job()), "job1"))
        await r.broker.wait_published(2)

    moved = [line for line in lines(capfd) if line["event"] == "given_back"]
    assert [(line["job_id"], line["reason"], line["level"]) for line in moved] == [
        ("job1", "moved", "debug")
    ]


@pytest.mark.usefixtures("_logged")
async def test_notification_and_parked_job_have_lines_of_their_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with rig(tmp_path, Script(recipients={"r@b.test": NEVER})) as r:
        (dsn,) = await r.successors(r.job(traceparent=PARENT))
        (parked,) = (await r.successors(r.job(reverse_path=""), 3))[2:]
    assert (dsn.queue, parked.queue) == (ACCEPTED, PARKED)

    told = [(line["event"], line.get("mail_id"), line["job_id"]) for line in lines(capfd)]
    assert told == [
        ("failed", "mail", "job1"),
        ("dsn", "mail", dsn.message_id),
        ("failed", "mail", "job2"),
        ("parked", "mail", parked.message_id),
    ]


@pytest.mark.usefixtures("_logged")
async def test_what_is_parked_as_it_is_has_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    unsafe = b"a\rb\r\n"
    async with rig(tmp_path) as r:
        await r.broker.publish(Outgoing(LANE, b"rubbish", "X1"))
        await r.give(r.job(content=Content(len(unsafe), memoryview(unsafe))))
        await r.give(r.job(content=Content(9, blob="aa/gone")))
        await r.broker.wait_published(6)

    told = [(line["event"], line["job_id"], line["reason"]) for line in lines(capfd)]
    assert told == [
        ("parked", "X1", "undecodable"),
        ("parked", "job1", "unsafe_content"),
        ("parked", "job2", "content_missing"),
    ]
