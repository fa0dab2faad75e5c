"""Opportunistic TLS: sessions are resumed, what is broken is left alone for a while."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trustme
import uvloop
from prometheus_client import REGISTRY

from services.delivery.attempt import Limits, transact
from services.delivery.candidates import Candidate
from services.delivery.hop import NextHop
from services.delivery.opening import Opener
from services.delivery.tls import BROKEN_FOR, MOST_PLACES, Tls
from services.delivery.work import Walk
from services.demo.receiver import Receiver, Script, Stage
from shared.messages.model import Content, DeliveryJob, MailExchanger, Recipient
from shared.messages.outcome import Delivered
from shared.settings.model import Settings
from tests.integration.test_delivery import TEXT, Loopback
from tests.support.raw_peer import Conversation, RawPeer

Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def server_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    trustme.CA().issue_cert("mx.b.test").configure_cert(context)
    return context


def job_to(*ports: int) -> DeliveryJob:
    return DeliveryJob(
        "J",
        "M",
        0.0,
        "s@a.test",
        (Recipient("r@b.test"),),
        Content(len(TEXT), memoryview(TEXT)),
        "b.test",
        tuple(MailExchanger(10, "mx.b.test", port) for port in ports),
        static=True,
    )


def new_opener() -> Opener:
    return Opener(Settings(hostname="mta.test"), Loopback(), random.Random(1))


async def connected(opener: Opener, port: int) -> NextHop:
    walk = Walk(not_after=asyncio.get_running_loop().time() + 60)
    hop = await opener.open(job_to(port), walk)
    assert isinstance(hop, NextHop), hop
    return hop


async def deliver(opener: Opener, port: int) -> None:
    hop = await connected(opener, port)
    result = await transact(hop.link, hop.extensions, job_to(port), TEXT, Limits())
    assert isinstance(result.outcomes[0], Delivered)
    await hop.leave()


def counted(result: str) -> float:
    return REGISTRY.get_sample_value("postroad_tls_handshakes_total", {"result": result}) or 0.0


@LOOPS
@VERSIONS
def test_the_second_connection_resumes_the_session_of_the_first(
    run: Run, version: ssl.TLSVersion
) -> None:
    async def scenario() -> None:
        context, opener = server_context(version), new_opener()
        full, resumed = counted("full"), counted("resumed")
        async with Receiver(tls=context) as receiver:
            for _ in range(3):
                await deliver(opener, receiver.port)
            assert [mail.tls for mail in receiver.messages] == [True] * 3
        assert context.session_stats()["hits"] == 2
        assert (counted("full") - full, counted("resumed") - resumed) == (1, 2)

    run(scenario())


@LOOPS
def test_places_do_not_share_sessions(run: Run) -> None:
    async def scenario() -> None:
        first, second, opener = server_context(), server_context(), new_opener()
        async with Receiver(tls=first) as one, Receiver(tls=second) as other:
            for receiver in (one, other, one):
                await deliver(opener, receiver.port)
        assert first.session_stats()["hits"] == 1
        assert second.session_stats()["hits"] == 0

    run(scenario())


@LOOPS
def test_handshakes_at_the_same_time_each_resume_their_own_session(run: Run) -> None:
    async def scenario() -> None:
        contexts, opener = [server_context() for _ in range(5)], new_opener()
        receivers = [Receiver(tls=context) for context in contexts]
        for receiver in receivers:
            await receiver.start()
        for _ in range(2):
            await asyncio.gather(*(deliver(opener, receiver.port) for receiver in receivers))
        for receiver in receivers:
            await receiver.close()
        assert [context.session_stats()["hits"] for context in contexts] == [1] * 5

    run(scenario())


async def test_a_server_that_forgot_the_session_gets_a_full_handshake() -> None:
    opener = new_opener()
    async with Receiver(tls=server_context()) as receiver:
        await deliver(opener, receiver.port)
        receiver.tls = context = server_context()
        await deliver(opener, receiver.port)
        assert receiver.messages[1].tls
        assert context.session_stats()["hits"] == 0


async def test_where_tls_is_broken_the_next_connections_begin_in_clear_text() -> None:
    opener, failed = new_opener(), counted("failed")
    script = Script(drop_at=frozenset({Stage.STARTTLS}))
    async with Receiver(script, tls=server_context()) as receiver:
        for _ in range(3):
            await deliver(opener, receiver.port)
        assert [mail.tls for mail in receiver.messages] == [False] * 3
        assert receiver.connections == 4
    assert counted("failed") - failed == 1


def test_broken_tls_is_forgotten_after_a_while() -> None:
    now = 1000.0
    tls = Tls(lambda: now)
    place = Candidate(10, "mx.b.test", "192.0.2.1", 25)
    tls.broke(place)
    assert not tls.is_worth_a_try(place)
    assert tls.is_worth_a_try(Candidate(10, "mx.b.test", "192.0.2.2", 25))
    now += BROKEN_FOR
    assert tls.is_worth_a_try(place)


def test_the_number_of_remembered_places_is_bounded() -> None:
    tls = Tls(lambda: 0.0)
    places = [Candidate(10, "mx.b.test", "192.0.2.1", port) for port in range(MOST_PLACES + 1)]
    for place in places:
        tls.broke(place)
    assert tls.is_worth_a_try(places[0])
    assert not tls.is_worth_a_try(places[-1])


@LOOPS
@pytest.mark.parametrize(
    "injected", [b"250-SIZE 1\r\n250 XFAKE\r\n", b"250-SIZE 1\r\n", b"250 half", b"\x00"]
)
def test_what_follows_the_220_of_starttls_never_counts(run: Run, injected: bytes) -> None:
    """Attack 5: text injected before the handshake must not become a part of the TLS session."""

    async def scenario() -> None:
        opener = new_opener()
        script = Script(after_starttls=injected)
        async with Receiver(script, tls=server_context()) as receiver:
            hop = await connected(opener, receiver.port)
            assert "xfake" not in hop.extensions
            assert hop.extensions["size"] == str(script.size)
            assert hop.ssl_object is None
            await hop.leave()
            assert receiver.connections == 2

    run(scenario())


async def test_a_word_in_clear_text_between_220_and_handshake_ends_the_connection() -> None:
    async def behave(peer: Conversation) -> None:
        await peer.greet(b"STARTTLS")
        await peer.until(b"STARTTLS")
        await peer.say(b"220 go\r\n")
        await peer.reader.read(1)  # the client's first octet of TLS
        await peer.say(b"250 injected\r\n")
        await peer.gone()

    async with RawPeer(behave) as peer:
        walk = Walk(not_after=asyncio.get_running_loop().time() + 60)
        hop = await new_opener().open(job_to(peer.port), walk)
        assert isinstance(hop, NextHop)
        assert hop.ssl_object is None
        assert peer.connections == 2
        hop.close()
