from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from services.ingress.acceptance import Acceptance
from services.ingress.dialogue import Dialogue
from services.ingress.policy import Rules, User, listener_rules
from services.ingress.senders import Quotas
from services.ingress.transaction import Transaction
from shared.broker.interface import Outgoing, PublishError, Refused, Unavailable, Unroutable
from shared.broker.topology import ACCEPTED
from shared.content.interface import ContentUnavailable
from shared.messages.codec import decode
from shared.messages.model import (
    DEMANDING,
    PLAIN,
    SECRET,
    AcceptedMail,
    DeliverBy,
    DsnWishes,
    MessageClass,
    Recipient,
)
from shared.settings.model import Settings
from shared.smtp.server_replies import BLOCKED, MAIL_LOOP, TROUBLE, ServerReply
from tests.support.memory_broker import MemoryBroker
from tests.support.memory_store import MemoryStore

NOW = 1795507200.5
INLINE_MAX = 1000


class NotingBroker(MemoryBroker):
    """Notes when a publish begins."""

    def __init__(self, happened: list[str]) -> None:
        super().__init__()
        self._happened = happened

    def publish(self, message: Outgoing) -> asyncio.Future[None]:
        self._happened.append("published")
        return super().publish(message)


class Bench:
    """An acceptance with everything around it, and the answers it gave."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.broker = NotingBroker(self.happened)
        self.store = MemoryStore(self.happened)
        self.acceptance = Acceptance(
            self.broker, self.store, INLINE_MAX, lambda: NOW, lambda count: b"\x01" * count
        )
        self.replies: asyncio.Queue[ServerReply] = asyncio.Queue()

    async def accept(
        self,
        content: bytes = b"Subject: x\r\n\r\nbody\r\n",
        commands: tuple[bytes, ...] = (b"MAIL FROM:<a@b.test>", b"RCPT TO:<c@d.test>"),
        user: User | None = None,
        change: Callable[[Dialogue], None] = lambda _: None,
        *,
        secured: bool = False,
    ) -> ServerReply:
        """The reply to a mail that came so."""
        dialogue, transaction = envelope(commands, user, secured=secured)
        change(dialogue)
        reply = self.acceptance.accept(dialogue, transaction, content, self.replies.put_nowait)
        if reply is None:
            reply = await asyncio.wait_for(self.replies.get(), 5)
        await self.acceptance.wait_idle()
        return reply

    def mail(self) -> AcceptedMail:
        """The one mail that was published."""
        (message,) = self.broker.published_to(ACCEPTED)
        mail = decode(message.body)
        assert isinstance(mail, AcceptedMail)
        assert message.message_id == mail.id
        return mail


def rules() -> Rules:
    settings = Settings.model_validate({"hostname": "mta.example.net"})
    return listener_rules(settings, settings.ingress.listeners[0])


def envelope(
    commands: tuple[bytes, ...], user: User | None, *, secured: bool = False
) -> tuple[Dialogue, Transaction]:
    dialogue = Dialogue(
        rules(), "127.0.0.1", secured=secured, blocked=lambda: False, quotas=Quotas(lambda: 0.0)
    )
    dialogue.command(b"EHLO client.example")
    if user is not None:
        dialogue.authenticated(user)
    for command in commands:
        reply = dialogue.command(command)
        assert reply is not None
        assert reply.code == 250, reply
    return dialogue, dialogue.end_content()


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_a_mail_goes_into_the_queue_whole_and_its_id_is_told(bench: Bench) -> None:
    reply = await bench.accept()
    mail = bench.mail()
    assert str(reply) == f"250 2.0.0 Ok: queued as {mail.id}"
    assert (mail.reverse_path, mail.accepted_at) == ("a@b.test", NOW)
    assert [recipient.address for recipient in mail.recipients] == ["c@d.test"]
    assert bytes(mail.content.inline) == (
        b"Received: from client.example ([127.0.0.1])\r\n"
        b"\tby mta.example.net with ESMTP id " + mail.id.encode() + b";\r\n"
        b"\tTue, 24 Nov 2026 08:00:00 +0000\r\n"
        b"Subject: x\r\n\r\nbody\r\n"
    )
    assert mail.content.size == len(mail.content.inline)
    assert (mail.tenant, mail.message_class) == ("default", MessageClass.TRANSACTIONAL)
    assert (mail.eight_bit, mail.smtputf8, mail.content.blob) == (False, False, "")


async def test_250_is_withheld_until_the_confirm(bench: Bench) -> None:
    bench.broker.stall()
    waiting = asyncio.create_task(bench.accept())
    for _ in range(5):
        await asyncio.sleep(0)
    assert bench.happened == ["published"]
    assert bench.replies.empty()
    bench.broker.resume()
    assert (await waiting).code == 250


async def test_a_large_content_is_stored_before_it_is_named(bench: Bench) -> None:
    content = b"Subject: x\r\n\r\n" + b"x\r\n" * INLINE_MAX
    assert (await bench.accept(content)).code == 250
    assert bench.happened == ["stored", "published"]
    mail = bench.mail()
    stored = bench.store.blobs[mail.content.blob]
    assert stored.endswith(content)
    assert (len(stored), bytes(mail.content.inline)) == (mail.content.size, b"")


async def test_the_limit_for_inline_counts_the_received_line(bench: Bench) -> None:
    await bench.accept(b"x" * (INLINE_MAX - 200) + b"\r\n")
    assert bench.mail().content.size <= INLINE_MAX
    assert bench.happened == ["published"]
    await bench.accept(b"x" * (INLINE_MAX - 100) + b"\r\n")
    assert bench.happened == ["published", "stored", "published"]


@pytest.mark.parametrize("error", [Unavailable("10.0.0.1 gone"), Refused("x"), Unroutable("x")])
async def test_trouble_of_the_broker_is_ours_and_not_told(
    bench: Bench, error: PublishError
) -> None:
    bench.broker.fail(error)
    assert await bench.accept() is TROUBLE


@pytest.mark.parametrize("error", [ContentUnavailable("disk"), ValueError("a bug"), TimeoutError()])
async def test_what_cannot_be_stored_is_not_published(bench: Bench, error: Exception) -> None:
    bench.store.error = error
    assert await bench.accept(b"x\r\n" * 2000) is TROUBLE
    assert bench.happened == []
    assert bench.broker.published == []


async def test_a_fault_of_ours_before_the_publish_is_451(bench: Bench) -> None:
    def spoil(dialogue: Dialogue) -> None:
        dialogue.client_name = "a\r\nBcc: victim@x.test"

    assert await bench.accept(change=spoil) is TROUBLE
    assert bench.broker.published == []


@pytest.mark.parametrize(("error", "left"), [(Refused("x"), 0), (Unavailable("x"), 1)])
async def test_a_blob_goes_only_if_no_message_can_name_it(
    bench: Bench, error: PublishError, left: int
) -> None:
    bench.broker.fail(error)
    assert await bench.accept(b"x\r\n" * 2000) is TROUBLE
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(bench.store.blobs) == left


async def test_a_blocked_broker_is_told_at_once_and_nothing_is_published(bench: Bench) -> None:
    bench.broker.block()
    assert await bench.accept() is BLOCKED
    assert bench.happened == []


async def test_a_looping_mail_is_refused(bench: Bench) -> None:
    assert await bench.accept(b"Received: x\r\n" * 101 + b"\r\n") is MAIL_LOOP
    assert bench.happened == []


async def test_the_header_goes_before_the_user_and_the_user_before_the_listener(
    bench: Bench,
) -> None:
    bulk = User("alice", "tenant-a", MessageClass.BULK)
    header = b"X-Postroad-Class: transactional\r\n"
    await bench.accept(user=bulk)
    mail = bench.mail()
    assert (mail.tenant, mail.message_class) == ("tenant-a", MessageClass.BULK)
    assert b"with ESMTPA id" in bytes(mail.content.inline)
    bench.broker.published.clear()
    await bench.accept(header + b"\r\n", user=bulk)
    assert bench.mail().message_class is MessageClass.TRANSACTIONAL
    assert b"X-Postroad" not in bytes(bench.mail().content.inline)
    bench.broker.published.clear()
    await bench.accept(user=User("bob", "default"))
    assert bench.mail().message_class is MessageClass.TRANSACTIONAL


async def test_a_recipient_comes_once_and_postmaster_is_ours(bench: Bench) -> None:
    recipients = (b"RCPT TO:<c@d.test>", b"RCPT TO:<c@d.test>", b"RCPT TO:<postmaster>")
    await bench.accept(commands=(b"MAIL FROM:<>", *recipients))
    mail = bench.mail()
    assert mail.reverse_path == ""
    assert [recipient.address for recipient in mail.recipients] == [
        "c@d.test",
        "postmaster@mta.example.net",
    ]


@pytest.mark.parametrize(
    ("sender", "content", "eight_bit", "smtputf8"),
    [
        ("<a@b.test> BODY=8BITMIME SMTPUTF8", "plain", False, False),
        ("<a@b.test>", "grüße", True, False),
        ("<a@b.test> SMTPUTF8", "grüße", True, True),
        ("<é@b.test> SMTPUTF8", "plain", False, True),
    ],
)
async def test_extensions_are_asked_of_the_next_hop_only_where_they_are_needed(
    bench: Bench, sender: str, content: str, eight_bit: bool, smtputf8: bool
) -> None:
    commands = (f"MAIL FROM:{sender}".encode(), b"RCPT TO:<c@d.test>")
    await bench.accept(f"Subject: {content}\r\n".encode(), commands)
    mail = bench.mail()
    assert (mail.eight_bit, mail.smtputf8) == (eight_bit, smtputf8)


async def test_what_the_sender_wants_to_be_told_goes_with_the_mail(bench: Bench) -> None:
    await bench.accept(
        commands=(
            b"MAIL FROM:<a@b.test> RET=hdrs ENVID=QQ+2B",
            b"RCPT TO:<c@d.test> NOTIFY=DELAY,SUCCESS ORCPT=rfc822;C@d.test",
            b"RCPT TO:<e@d.test>",
        )
    )
    mail = bench.mail()
    assert mail.dsn == DsnWishes("HDRS", "QQ+2B")
    assert mail.recipients == (
        Recipient("c@d.test", "SUCCESS,DELAY", "rfc822;C@d.test"),
        Recipient("e@d.test"),
    )


@pytest.mark.parametrize(
    "parameters", [("NOTIFY=NEVER ORCPT=rfc822;C@d.test", ""), ("", " ORCPT=rfc822;C@d.test")]
)
async def test_a_recipient_named_twice_is_told_of_what_either_asked_for(
    bench: Bench, parameters: tuple[str, str]
) -> None:
    rcpts = tuple(f"RCPT TO:<c@d.test> {each}".encode() for each in parameters)
    await bench.accept(commands=(b"MAIL FROM:<a@b.test>", *rcpts))
    assert bench.mail().recipients == (Recipient("c@d.test", "", "rfc822;C@d.test"),)


@pytest.mark.parametrize(("body", "schema"), [("BINARYMIME", DEMANDING), ("8BITMIME", PLAIN)])
async def test_only_a_binary_content_asks_for_workers_that_know_of_it(
    bench: Bench, body: str, schema: int
) -> None:
    await bench.accept(
        commands=(f"MAIL FROM:<a@b.test> BODY={body}".encode(), b"RCPT TO:<c@d.test>")
    )
    assert (bench.mail().schema, bench.mail().binary) == (schema, schema == DEMANDING)


async def test_mail_that_requires_tls_is_for_workers_only_that_know_of_it(bench: Bench) -> None:
    commands = b"MAIL FROM:<a@b.test> REQUIRETLS BODY=BINARYMIME", b"RCPT TO:<c@d.test>"
    await bench.accept(commands=commands, secured=True)
    assert (bench.mail().require_tls, bench.mail().binary) == (True, True)
    assert bench.mail().schema == SECRET


@pytest.mark.parametrize(
    ("value", "deliver_by"),
    [
        ("60;RT", DeliverBy(NOW + 60, returns=True, traced=True)),
        ("60;N", DeliverBy(NOW + 60)),
        ("-5;N", DeliverBy(NOW - 5, told=True)),
    ],
)
async def test_a_time_to_deliver_by_is_a_time_of_day(
    bench: Bench, value: str, deliver_by: DeliverBy
) -> None:
    commands = f"MAIL FROM:<a@b.test> BY={value}".encode(), b"RCPT TO:<c@d.test>"
    await bench.accept(b"From: a@b.test\r\n\r\n", (b"EHLO x", *commands), User("al", "default"))
    assert (bench.mail().deliver_by, bench.mail().schema) == (deliver_by, DEMANDING)


@pytest.mark.parametrize("user", [None, User("al", "default")])
async def test_what_a_header_asks_of_tls_is_left_as_it_is(bench: Bench, user: User | None) -> None:
    header = b"tls-Required:  No\r\nFrom: a@b.test\r\nSubject: x\r\n"
    await bench.accept(header + b"\r\nbody\r\n", user=user)
    assert b"\r\n" + header in bytes(bench.mail().content.inline)


@pytest.mark.parametrize(
    ("priority", "message_class"),
    [("9", MessageClass.TRANSACTIONAL), ("-1", MessageClass.BULK), ("0", MessageClass.BULK)],
)
async def test_a_priority_is_a_message_class(
    bench: Bench, priority: str, message_class: MessageClass
) -> None:
    await bench.accept(
        commands=(f"MAIL FROM:<a@b.test> MT-PRIORITY={priority}".encode(), b"RCPT TO:<c@d.test>"),
        user=User("al", "t", MessageClass.BULK),
    )
    assert bench.mail().message_class is message_class
