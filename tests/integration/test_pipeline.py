"""Mail from a client through three real processes to real receivers, on both brokers."""

from __future__ import annotations

import email
import email.policy
import random
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import cast

import pytest
import pytest_asyncio

from services.demo.script import GREYLISTED, Greylist, Received, Script
from tests.support.pipeline import SERVICES, Metrics, eventually
from tests.support.rabbitmq import ForeignServer, RabbitNode
from tests.support.rig import CONTENT, DOMAINS, SENDER, Rig, running_rig
from tests.support.smtp_client import SmtpClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]
)
def broker_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "embedded":
        return f"embedded://{tmp_path_factory.mktemp('broker')}"
    server: RabbitNode | ForeignServer = request.getfixturevalue("rabbitmq")
    return server.new_vhost()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_rig(
    broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Rig]:
    async with running_rig(tmp_path_factory.mktemp("rig"), broker_url) as rig:
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def rig(module_rig: Rig) -> Rig:
    await module_rig.renew()
    return module_rig


def without_received(content: bytes) -> bytes:
    """The content without the trace line that ingress puts on top."""
    assert content.startswith(b"Received: ")
    lines = content.split(b"\r\n")
    end = next(n for n, line in enumerate(lines[1:], 1) if not line.startswith((b" ", b"\t")))
    return b"\r\n".join(lines[end:])


async def metrics_of_all(rig: Rig) -> Metrics:
    together = Metrics()
    for name in SERVICES:
        for key, value in (await rig.pipeline.metrics(name)).items():
            together[key] += value
    return together


def parse_dsn(received: Received) -> EmailMessage:
    message = email.message_from_bytes(received.content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


async def test_recipients_in_several_domains_each_get_the_mail_once(rig: Rig) -> None:
    recipients = [rig.address(domain) for domain in DOMAINS for _ in range(3)]
    await rig.insist(recipients)

    account = await rig.wait_accounted()
    assert account.delivered == dict.fromkeys(recipients, 1)
    assert len(rig.received()) == len(DOMAINS), "recipients of a domain share a transaction"
    assert {message.reverse_path for message in rig.received()} == {SENDER}


async def test_content_arrives_byte_for_byte_after_the_received_line(rig: Rig) -> None:
    octets = bytes(b for b in range(1, 256) if b not in b"\r\n")
    lines = [b"", b".", b"..", b". dot", b"x" * 990, octets, b"no space left  ", b"\t", b""]
    content = b"Subject: bytes\r\nX-Odd:\r\n\r\n" + b"\r\n".join(lines) + b"\r\n.\r\n\r\n"
    await rig.insist([rig.address()], content)

    await rig.wait_accounted()
    (received,) = rig.received()
    assert without_received(received.content) == content


async def test_a_large_content_travels_through_the_store_and_leaves_nothing_there(
    rig: Rig,
) -> None:
    line = random.Random(1).randbytes(30).hex().encode() + b"\r\n"
    content = b"Subject: large\r\n\r\n" + line * 20_000
    await rig.insist([rig.address(domain) for domain in DOMAINS], content)

    await rig.wait_accounted()
    assert len(rig.received()) == len(DOMAINS)
    for received in rig.received():
        assert without_received(received.content) == content
    await until_no_blobs(rig)


async def until_no_blobs(rig: Rig) -> None:
    store = rig.pipeline.folder / "content"

    async def none_left() -> bool:
        return not any(path.is_file() for path in store.rglob("*"))

    await eventually(none_left, "the blob and its markers are gone")


async def test_a_refused_mailbox_is_answered_by_a_dsn_that_parses(rig: Rig) -> None:
    fine, refused = rig.address(), rig.address()
    rig.script(Script(refused=frozenset({refused})))
    await rig.insist([fine, refused])

    account = await rig.wait_accounted()
    assert (account.delivered, account.notified) == ({fine: 1}, {refused: 1})
    (received,) = rig.received("sender.test")
    assert received.recipients == (SENDER,)
    dsn = parse_dsn(received)
    assert dsn.get_content_type() == "multipart/report"
    assert dsn.get_param("report-type") == "delivery-status"
    _, status, original = dsn.iter_parts()
    message, recipient = cast("list[EmailMessage]", status.get_payload())
    assert message["Reporting-MTA"] == "dns; mta.example.net"
    assert (recipient["Action"], recipient["Status"]) == ("failed", "5.1.1")
    assert recipient["Final-Recipient"] == f"rfc822; {refused}"
    assert "550 5.1.1" in recipient["Diagnostic-Code"]
    assert "Subject: test" in original.as_string()


async def test_a_greylisted_recipient_is_tried_again_and_delivered(rig: Rig) -> None:
    before = await metrics_of_all(rig)
    rig.script(Script(greylist=Greylist(tries=2)))
    recipient = rig.address()
    await rig.insist([recipient])

    account = await rig.wait_accounted()
    assert account.delivered == {recipient: 1}
    after = await metrics_of_all(rig)
    assert after.total("postroad_retries_total") - before.total("postroad_retries_total") == 2


async def test_only_the_deferred_recipient_of_a_mail_is_tried_again(rig: Rig) -> None:
    fine, grey, refused = (rig.address() for _ in range(3))
    rig.script(Script(recipients={grey: GREYLISTED}, refused=frozenset({refused})))
    await rig.insist([fine, grey, refused])
    await rig.receivers["one.test"].wait_for(lambda: len(rig.received("one.test")) == 1)
    await rig.receivers["sender.test"].wait_for(lambda: len(rig.received("sender.test")) == 1)
    rig.script(Script())

    account = await rig.wait_accounted()
    assert account.delivered == {fine: 1, grey: 1}
    assert account.notified == {refused: 1}


async def test_a_failing_dsn_is_parked_and_never_answered(rig: Rig) -> None:
    refused = rig.address()
    rig.script(Script(refused=frozenset({refused})))
    rig.receivers["sender.test"].script = Script(refused=frozenset({SENDER}))
    await rig.insist([refused])

    (parked,) = await rig.parked(1)
    assert parked.headers["x-postroad-reason"] == "dsn_failed"
    await rig.wait_quiet()
    assert rig.received() == []


async def test_a_session_sends_many_mails_over_one_connection(rig: Rig) -> None:
    recipients = [rig.address() for _ in range(50)]
    async with SmtpClient(rig.pipeline.smtp_port) as client:
        for recipient in recipients:
            rig.ledger.tried([recipient])
            answer = await client.send(SENDER, [recipient], CONTENT)
            assert answer.code == 250
            assert answer.text.startswith("2.0.0 Ok: queued as ")
            rig.ledger.took([recipient])

    account = await rig.wait_accounted()
    assert account.delivered == dict.fromkeys(recipients, 1)


async def test_the_promised_metrics_move(rig: Rig) -> None:
    before = await metrics_of_all(rig)
    fine, grey, refused = rig.address(), rig.address("two.test"), rig.address()
    rig.script(Script(refused=frozenset({refused})))
    rig.receivers["two.test"].script = Script(greylist=Greylist())
    await rig.insist([fine, grey, refused])
    assert (await rig.send(["not an address"])).code >= 500
    await rig.wait_accounted()

    after = await metrics_of_all(rig)

    def rose(name: str) -> float:
        return after.total(name) - before.total(name)

    assert rose("postroad_accepted_messages_total") == 1
    assert rose("postroad_refused_messages_total") >= 1
    assert rose("postroad_delivery_attempts_total") == 5, "three, the retry and the DSN"
    for outcome, count in (("delivered", 3), ("deferred", 1), ("failed", 1)):
        key = f'postroad_delivery_attempts_total{{outcome="{outcome}",provider="other"}}'
        assert after[key] - before[key] == count
    key = 'postroad_retries_total{reason="policy",step="1s"}'
    assert after[key] - before[key] == 1
    assert rose("postroad_failures_total") == 1
    key = 'postroad_dsn_total{action="failed"}'
    assert after[key] - before[key] == 1
    assert rose("postroad_routed_jobs_total") >= 3
    assert rose("postroad_publish_seconds_count") > 0
    assert rose("postroad_queue_seconds_count") == 4, "delivered, retried, failed, the DSN"
    assert "postroad_parked_messages_total" in {key.partition("{")[0] for key in after}
    for name in ("postroad_in_flight_jobs", "postroad_pool_connections", "postroad_broker_usable"):
        assert name in after


async def test_every_log_line_is_json_and_none_holds_content(rig: Rig) -> None:
    await rig.insist([rig.address()], b"Subject: s\r\n\r\nunmistakable body\r\n")
    await rig.wait_accounted()

    for name in SERVICES:
        kinds = {line["event"] for line in rig.pipeline.log_lines(name)}
        assert kinds & {"accepted", "routed", "delivered"}
        assert "unmistakable" not in rig.pipeline.log_text(name)
