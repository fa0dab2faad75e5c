"""Receivers that attack or confuse the client (attacks 2, 5 and 32): deferred, and memory flat."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.demo.receiver import Receiver
from shared.messages.model import DeliveryJob, MailExchanger
from tests.integration.test_delivery import Rig, retried, rig
from tests.support.raw_peer import Behaviour, Conversation, RawPeer

FLOOD = 10_000_000
"""Octets that a flooding peer sends."""
MEMORY = 3_000_000
"""Octets the client may take meanwhile."""


@asynccontextmanager
async def against(
    tmp_path: Path, behaviour: Behaviour, **keys: Any
) -> AsyncIterator[tuple[Rig, RawPeer]]:
    async with rig(tmp_path, None, None, **keys) as r, RawPeer(behaviour) as peer:
        yield r, peer


def job_for(r: Rig, *ports: int) -> DeliveryJob:
    exchangers = tuple(MailExchanger(n, "mx.b.test", port) for n, port in enumerate(ports))
    return r.job(exchangers=exchangers)


async def flood(peer: Conversation, piece: bytes) -> None:
    block = piece * (65536 // len(piece) + 1)
    for _ in range(FLOOD // len(block)):
        await peer.say(block)
    await peer.gone()


async def huge_banner(peer: Conversation) -> None:
    await flood(peer, b"220" + b"x" * 1000)


async def endless_banner(peer: Conversation) -> None:
    await flood(peer, b"220-more\r\n")


async def endless_ehlo(peer: Conversation) -> None:
    await peer.say(b"220 x\r\n")
    await peer.line()
    await flood(peer, b"250-MORE\r\n")


async def many_extensions(peer: Conversation) -> None:
    await peer.say(b"220 x\r\n")
    await peer.line()
    await peer.say(b"".join(b"250-X%d\r\n" % number for number in range(10_000)))
    await peer.say(b"250 END\r\n")
    await peer.gone()


def at_mail(answer: bytes) -> Behaviour:
    async def behave(peer: Conversation) -> None:
        await peer.greet(b"PIPELINING")
        await peer.until(b"MAIL")
        await peer.say(answer)
        await peer.gone()

    return behave


async def flood_at_mail(peer: Conversation) -> None:
    await peer.greet(b"PIPELINING")
    await peer.until(b"MAIL")
    await flood(peer, b"250-and more\r\n")


HOSTILE = {
    "a banner of 10 MB": huge_banner,
    "an endless banner": endless_banner,
    "an endless reply to EHLO": endless_ehlo,
    "10,000 extensions": many_extensions,
    "an endless reply to MAIL": flood_at_mail,
    "a NUL": at_mail(b"\x00\r\n"),
    "the code 999": at_mail(b"999 what\r\n"),
    "the code 000": at_mail(b"000 what\r\n"),
    "no code": at_mail(b"hello\r\n"),
    "354 to MAIL": at_mail(b"354 go\r\n250 ok\r\n354 go\r\n"),
    "354 to RCPT": at_mail(b"250 ok\r\n354 go\r\n354 go\r\n"),
    "250 to DATA": at_mail(b"250 ok\r\n250 ok\r\n250 ok\r\n"),
    "a reply too many before the content": at_mail(b"250 a\r\n250 b\r\n354 c\r\n250 d\r\n"),
    "a part of a reply too many": at_mail(b"250 a\r\n250 b\r\n354 c\r\n250"),
    "421 among the replies": at_mail(b"250 ok\r\n421 bye\r\n"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_receiver_only_gets_its_own_mail_deferred(
    tmp_path: Path, name: str
) -> None:
    async with against(tmp_path, HOSTILE[name]) as (r, peer):
        tracemalloc.start()
        try:
            later = await r.successors(job_for(r, peer.port))
            assert tracemalloc.get_traced_memory()[1] < MEMORY
        finally:
            tracemalloc.stop()
        assert retried(later[0]).attempt == 1


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_receiver_is_left_for_the_next_exchanger(tmp_path: Path, name: str) -> None:
    async with against(tmp_path, HOSTILE[name]) as (r, peer), Receiver() as worse:
        await r.give(job_for(r, peer.port, worse.port))
        assert len(await worse.wait_for(1)) == 1


@pytest.mark.parametrize("size", [b"9" * 300, b"99999999999999999999", b"-1", b"x", b"0"])
async def test_a_size_that_is_no_limit_is_ignored(tmp_path: Path, size: bytes) -> None:
    async def behave(peer: Conversation) -> None:
        await peer.greet(b"PIPELINING", b"SIZE " + size)
        await peer.until(b"DATA")
        await peer.say(b"250 ok\r\n250 ok\r\n354 go\r\n")
        await peer.until(b".\r\n")
        await peer.say(b"250 ok\r\n")
        taken.set()
        await peer.gone()

    taken = asyncio.Event()
    async with against(tmp_path, behave) as (r, peer):
        await r.give(job_for(r, peer.port))
        async with asyncio.timeout(5):
            await taken.wait()


@pytest.mark.parametrize("wait", [b"", b"MAIL", b"RCPT", b"DATA"])
@pytest.mark.parametrize("how", ["reset", "half-closed"])
async def test_a_connection_cut_before_the_content_leads_to_the_next_exchanger(
    tmp_path: Path, wait: bytes, how: str
) -> None:
    async def behave(peer: Conversation) -> None:
        if wait:
            await peer.greet()
            verb = b"EHLO"
            while verb != wait:
                verb = (await peer.line())[:4]
                if verb != wait:
                    await peer.say(b"250 ok\r\n")
        if how == "reset":
            peer.reset()
        else:
            peer.writer.write_eof()
            await peer.gone()

    async with against(tmp_path, behave) as (r, peer), Receiver() as worse:
        await r.give(job_for(r, peer.port, worse.port))
        await worse.wait_for(1)
        assert peer.connections == 1


@pytest.mark.parametrize(
    "answer", [b"354 go on\r\n", b"999 taken\r\n", b"250", b"\x00\r\n", b"250-taken\r\n", b""]
)
async def test_no_reply_to_the_content_is_uncertain_and_goes_nowhere_else(
    tmp_path: Path, answer: bytes
) -> None:
    async def behave(peer: Conversation) -> None:
        await peer.greet()
        for _ in range(2):
            await peer.line()
            await peer.say(b"250 ok\r\n")
        await peer.line()
        await peer.say(b"354 go\r\n")
        await peer.until(b".\r\n")
        await peer.say(answer)

    async with against(tmp_path, behave) as (r, peer), Receiver() as worse:
        later = await r.successors(job_for(r, peer.port, worse.port))
        assert retried(later[0]).attempt == 1
        assert worse.connections == 0


async def test_a_reply_before_the_end_of_the_content_ends_the_transaction(tmp_path: Path) -> None:
    async def behave(peer: Conversation) -> None:
        await peer.greet(b"PIPELINING")
        await peer.until(b"DATA")
        await peer.say(b"250 ok\r\n250 ok\r\n354 go\r\n452 4.3.1 full\r\n")
        await peer.gone()

    async with against(tmp_path, behave) as (r, peer):
        (later,) = await r.successors(job_for(r, peer.port))
        assert retried(later).attempt == 1


async def answer_mail(peer: Conversation, chunking: bool) -> None:
    """One whole transaction."""
    if chunking:
        await peer.until(b"body")
        await peer.say(b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.0.0 taken\r\n")
    else:
        await peer.until(b"DATA")
        await peer.say(b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n")
        await peer.until(b".\r\n")
        await peer.say(b"250 2.0.0 taken\r\n")


@pytest.mark.parametrize("extension", [b"CHUNKING", b"X-NONE"])
async def test_a_late_reply_to_one_mail_never_counts_for_the_next(
    tmp_path: Path, extension: bytes
) -> None:
    """The peer answers the first content twice, the second time when the next mail has begun."""

    async def behave(peer: Conversation) -> None:
        await peer.greet(b"PIPELINING", b"ENHANCEDSTATUSCODES", extension)
        if raw.connections == 1:
            await answer_mail(peer, extension == b"CHUNKING")
            await peer.until(b"MAIL")
            await peer.say(b"250 2.0.0 taken again\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n")
            await peer.gone()
        else:
            await peer.until(b"MAIL")
            await peer.say(b"450 4.2.0 later\r\n450 4.2.0 later\r\n450 4.2.0 later\r\n")

    async with against(tmp_path, behave, connections=1) as (r, raw):
        await r.give(job_for(r, raw.port))
        await r.give(job_for(r, raw.port))
        published = await r.broker.wait_published(3)
        assert retried(published[2]).id == "job2"


async def test_a_peer_that_drips_gets_no_more_time(tmp_path: Path) -> None:
    async def behave(peer: Conversation) -> None:
        await peer.say(b"220-")
        while True:
            await peer.say(b"x")
            await asyncio.sleep(0.02)

    async with against(tmp_path, behave, timeouts={"greeting": "200ms"}) as (r, peer):
        assert retried((await r.successors(job_for(r, peer.port)))[0]).attempt == 1
