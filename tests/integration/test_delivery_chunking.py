"""Contents in chunks (RFC 3030): unchanged, in few round trips, and ended properly when refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.delivery.upload import BLOCK, CHUNK
from services.demo.receiver import Receiver, Script, Stage
from shared.broker.topology import ACCEPTED
from shared.messages.model import Content, MailExchanger, Recipient
from shared.smtp.replies import Reply
from tests.integration.test_delivery import LATER, NEVER, TEXT, Rig, retried, rig

CHUNKING = Script(shown=("CHUNKING",))
NO_PIPELINING = frozenset({"PIPELINING"})
HIDDEN = pytest.mark.parametrize("hidden", [frozenset[str](), NO_PIPELINING])


def text_of(octets: int) -> bytes:
    line = b".a line with a dot in front of it\r\n"
    return (b"Subject: x\r\n\r\n" + line * (octets // len(line) + 1))[: octets - 2] + b"\r\n"


async def give_large(r: Rig, text: bytes, **changes: object) -> None:
    await r.store.put("aa/mail", text)
    await r.give(r.job(content=Content(len(text), blob="aa/mail"), **changes))


@HIDDEN
@pytest.mark.parametrize(
    "octets", [1000, BLOCK, BLOCK + 1, CHUNK, CHUNK + 1, 2 * CHUNK + BLOCK + 7, 5 * CHUNK]
)
async def test_a_content_arrives_unchanged(
    tmp_path: Path, octets: int, hidden: frozenset[str]
) -> None:
    text = text_of(octets)
    async with rig(tmp_path, Script(shown=("CHUNKING",), hidden=hidden)) as r:
        await give_large(r, text)
        (mail,) = await r.receiver.wait_for(1)
        assert mail.content == text
        assert b"DATA\r\n" not in r.receiver.raw[0]


async def test_a_small_mail_takes_one_round_trip(tmp_path: Path) -> None:
    script = Script(shown=("CHUNKING",), delays={Stage.MAIL: 0.05})
    async with rig(tmp_path, script) as r:
        await r.give(r.job())
        await r.receiver.wait_for(lambda: b"MAIL" in b"".join(r.receiver.raw))
        assert r.receiver.raw[0].endswith(TEXT)
        await r.receiver.wait_for(1)


async def test_later_mail_on_the_connection_goes_in_chunks_too(tmp_path: Path) -> None:
    async with rig(tmp_path, CHUNKING, connections=1) as r:
        for _ in range(3):
            await r.give(r.job())
        await r.receiver.wait_for(3)
        assert r.receiver.connections == 1
        assert r.receiver.raw[0].count(b"BDAT") == 3


async def test_chunks_can_be_switched_off(tmp_path: Path) -> None:
    async with rig(tmp_path, CHUNKING, chunking=False) as r:
        await r.give(r.job())
        await r.receiver.wait_for(1)
        assert b"BDAT" not in r.receiver.raw[0]


@HIDDEN
async def test_each_recipient_has_an_outcome_of_its_own(
    tmp_path: Path, hidden: frozenset[str]
) -> None:
    script = Script(
        recipients={"later@": LATER},
        refused=frozenset({"no@"}),
        shown=("CHUNKING",),
        hidden=hidden,
    )
    async with rig(tmp_path, script) as r:
        later, dsn = await r.successors(r.job("yes@b.test", "later@b.test", "no@b.test"), 2)
        assert r.receiver.messages[0].recipients == ("yes@b.test",)
        assert retried(later).recipients == (Recipient("later@b.test"),)
        assert b"no@b.test" in dsn.body


@HIDDEN
async def test_a_connection_goes_on_after_all_recipients_were_refused(
    tmp_path: Path, hidden: frozenset[str]
) -> None:
    script = Script(refused=frozenset({"no@"}), shown=("CHUNKING",), hidden=hidden)
    async with rig(tmp_path, script, connections=1) as r:
        await r.successors(r.job("no@b.test"))
        await r.give(r.job("yes@b.test"))
        (mail,) = await r.receiver.wait_for(1)
        assert mail.content == TEXT
        assert r.receiver.connections == 1


@HIDDEN
@pytest.mark.parametrize("reply", [LATER, NEVER])
async def test_a_refused_chunk_ends_the_transaction(
    tmp_path: Path, reply: Reply, hidden: frozenset[str]
) -> None:
    script = Script(replies={Stage.CHUNK: reply}, shown=("CHUNKING",), hidden=hidden)
    async with rig(tmp_path, script, connections=1) as r:
        await r.store.put("aa/mail", text_of(5 * CHUNK))
        job = r.job(content=Content(5 * CHUNK, blob="aa/mail"))
        (follows,) = await r.successors(job)
        assert (follows.queue == ACCEPTED) == (reply is NEVER)
        await r.give(r.job())
        (mail,) = await r.receiver.wait_for(1)
        assert mail.content == TEXT
        assert r.receiver.connections == 1
        assert len(r.receiver.raw[0]) < 4 * CHUNK


async def test_a_content_refused_at_its_end_leaves_a_usable_connection(tmp_path: Path) -> None:
    script = Script(replies={Stage.DOT: LATER}, shown=("CHUNKING",))
    async with rig(tmp_path, script, connections=1) as r:
        retried((await r.successors(r.job()))[0])
        r.receiver.script = CHUNKING
        await r.give(r.job())
        await r.receiver.wait_for(1)
        assert r.receiver.connections == 1


async def test_a_drop_after_the_last_chunk_is_not_tried_at_the_next_exchanger(
    tmp_path: Path,
) -> None:
    script = Script(drop_at=frozenset({Stage.DOT}), shown=("CHUNKING",))
    async with rig(tmp_path, script) as r, Receiver() as worse:
        exchangers = tuple(
            MailExchanger(n, "mx.b.test", one.port) for n, one in enumerate((r.receiver, worse))
        )
        retried((await r.successors(r.job(exchangers=exchangers)))[0])
        assert worse.connections == 0


async def test_421_to_a_recipient_leads_to_the_next_exchanger(tmp_path: Path) -> None:
    script = Script(recipients={"r@": Reply(421, "4.3.2", "Closing")}, shown=("CHUNKING",))
    async with rig(tmp_path, script) as r, Receiver() as worse:
        exchangers = tuple(
            MailExchanger(n, "mx.b.test", one.port) for n, one in enumerate((r.receiver, worse))
        )
        await r.give(r.job(exchangers=exchangers))
        await worse.wait_for(1)
