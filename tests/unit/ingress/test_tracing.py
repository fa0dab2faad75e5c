"""Whose word counts for the trace of a mail, and what is told of its acceptance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import pytest

from services.ingress.acceptance import Acceptance
from services.ingress.policy import User
from services.ingress.transaction import Transaction
from shared.broker.interface import Refused
from shared.broker.topology import ACCEPTED
from shared.messages.codec import decode
from shared.messages.model import AcceptedMail
from shared.smtp.server_replies import ServerReply
from tests.support.memory_broker import MemoryBroker
from tests.support.memory_store import MemoryStore
from tests.support.spans import KeptSpans, Seen
from tests.unit.ingress.test_acceptance import envelope

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
NAMED = f"00-{TRACE}-{SPAN}-01"
NOT_RECORDED = f"00-{TRACE}-{SPAN}-00"
ALICE = User("alice", "shop")
COMMANDS = (b"MAIL FROM:<a@b.test>", b"RCPT TO:<c@d.test>", b"RCPT TO:<e@d.test>")


class Bench:
    """An acceptance that is traced, with a clock that goes on by a second with each look."""

    def __init__(self, trusted: Collection[str] = ("shop",), ratio: float = 1.0) -> None:
        self.spans = KeptSpans("ingress", ratio)
        self.broker = MemoryBroker()
        self._now = 1000.0
        self.acceptance = Acceptance(
            self.broker, MemoryStore([]), 500, self.clock,
            tracer=self.spans.tracer, trusted_tenants=trusted,
        )  # fmt: skip

    def clock(self) -> float:
        self._now += 1
        return self._now

    async def accept(
        self,
        traceparent: str = NAMED,
        user: User | None = ALICE,
        untrusted: bool = False,
        begins: Callable[[Transaction], None] = lambda _: None,
    ) -> ServerReply:
        dialogue, transaction = envelope(COMMANDS, user)
        dialogue.trusted = not untrusted
        begins(transaction)
        replies: asyncio.Queue[ServerReply] = asyncio.Queue()
        content = f"From: a@b.test\r\nTraceparent: {traceparent}\r\n\r\nbody\r\n".encode()
        assert self.acceptance.accept(dialogue, transaction, content, replies.put_nowait) is None
        return await asyncio.wait_for(replies.get(), 5)

    def mail(self) -> AcceptedMail:
        (message,) = self.broker.published_to(ACCEPTED)
        mail = decode(message.body)
        assert isinstance(mail, AcceptedMail)
        return mail

    async def span(self) -> Seen:
        (span,) = await self.spans.all()
        return span


async def test_a_trusted_client_names_the_trace_and_no_recipient_sees_it() -> None:
    bench = Bench()
    assert (await bench.accept()).code == 250

    span, mail = await bench.span(), bench.mail()
    assert (span.trace_id, span.parent_id) == (TRACE, SPAN)
    assert mail.traceparent == span.traceparent
    assert b"raceparent" not in bytes(mail.content.inline)


@pytest.mark.parametrize(
    ("trusted", "user", "untrusted"),
    [
        ((), ALICE, False),
        (("bank",), ALICE, False),
        (("shop",), None, False),
        (("shop", "default", "*"), None, True),
    ],
)
async def test_of_others_a_traceparent_is_not_read(
    trusted: tuple[str, ...], user: User | None, untrusted: bool
) -> None:
    bench = Bench(trusted)
    await bench.accept(user=user, untrusted=untrusted)

    span = await bench.span()
    assert span.trace_id != TRACE
    assert span.parent_id == ""


@pytest.mark.parametrize("trusted", [("default",), ("*",)])
async def test_clients_of_a_relay_network_are_of_the_tenant_of_their_listener(
    trusted: tuple[str, ...],
) -> None:
    bench = Bench(trusted)
    await bench.accept(user=None)

    assert (await bench.span()).trace_id == TRACE
    assert NAMED.encode() in bytes(bench.mail().content.inline), "relayed mail stays as it is"


@pytest.mark.parametrize("traceparent", ["", "nonsense", NAMED.upper(), f"{NAMED}\r\n {NAMED}"])
async def test_a_traceparent_that_is_none_begins_a_trace(traceparent: str) -> None:
    bench = Bench()
    await bench.accept(traceparent)

    assert (await bench.span()).parent_id == ""


@pytest.mark.parametrize(("traceparent", "ratio"), [(NOT_RECORDED, 1.0), ("", 0.0)])
async def test_mail_that_is_not_traced_carries_nothing(traceparent: str, ratio: float) -> None:
    bench = Bench(ratio=ratio)
    assert (await bench.accept(traceparent)).code == 250

    assert bench.mail().traceparent == ""
    assert await bench.spans.all() == []


async def test_a_trusted_client_decides_whatever_chance_says() -> None:
    bench = Bench(ratio=0.0)
    await bench.accept()

    assert (await bench.span()).trace_id == TRACE


async def test_a_span_lasts_from_the_first_octet_to_the_reply_and_says_what_was_taken() -> None:
    bench = Bench()
    await bench.accept(begins=bench.acceptance.content_begins)

    span, mail = await bench.span(), bench.mail()
    assert (span.began, span.ended) == (1001.0, 1003.0)
    assert span.error == ""
    assert span.attributes == {
        "network.protocol.name": "smtp",
        "messaging.operation.type": "send",
        "messaging.destination.name": ACCEPTED,
        "messaging.message.id": mail.id,
        "messaging.message.body.size": mail.content.size,
        "postroad.mail_id": mail.id,
        "postroad.tenant": "shop",
        "postroad.class": "transactional",
        "postroad.recipients": 2,
        "postroad.receive_seconds": 1.0,
        "postroad.reply.code": 250,
        "postroad.reply.enhanced": "2.0.0",
    }


async def test_the_first_of_several_chunks_is_where_a_content_begins() -> None:
    bench = Bench()

    def chunks(transaction: Transaction) -> None:
        bench.acceptance.content_begins(transaction)
        bench.acceptance.content_begins(transaction)

    await bench.accept(begins=chunks)
    assert (await bench.span()).began == 1001.0


async def test_a_mail_that_was_not_taken_has_a_span_that_says_so() -> None:
    bench = Bench()
    bench.broker.fail(Refused("disk full"))
    assert (await bench.accept()).code == 451

    span = await bench.span()
    assert (span.error, span.attributes["postroad.reply.code"]) == ("refused", 451)
