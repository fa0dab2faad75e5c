"""Ingress sessions over real sockets: what a text dialogue cannot say."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.ingress.budget import Budget
from services.ingress.server import MOST_UNREAD, SmtpServer
from shared import metrics
from shared.broker.interface import Refused
from shared.settings.units import parse_duration_ms
from tests.support.ingress import RunningIngress, ingress_settings, running_ingress
from tests.support.smtp_client import SmtpClient

TIMEOUT = 10.0


@pytest.fixture
async def ingress(tmp_path: Path) -> AsyncIterator[RunningIngress]:
    async with running_ingress(tmp_path) as running:
        yield running


async def until_closed(client: SmtpClient) -> bytes:
    """Everything the server says until it closes."""
    return await asyncio.wait_for(client._reader.read(), TIMEOUT)


async def begin(client: SmtpClient) -> None:
    """Up to the 354."""
    assert (await client.begin("a@b.test", ["c@d.test"])).code == 354


def vanish(client: SmtpClient) -> None:
    """Let the client's close be a reset, as when its host is gone."""
    sock = client._writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client._writer.transport.abort()


async def settled(ingress: RunningIngress) -> None:
    """Let the loop turn until what was sent has been read."""
    for _ in range(20):
        await asyncio.sleep(0.005)


async def test_content_arrives_byte_for_byte_after_the_received_line(
    ingress: RunningIngress,
) -> None:
    octets = random.Random(1).randbytes(60_000).translate(None, b"\r\0").replace(b"\n", b"\r\n.")
    octets = b"\r\n".join(line[:998] for line in octets.split(b"\r\n"))
    content = b"Subject: x\r\n\r\n" + octets + b"\r\n..\r\n"
    async with SmtpClient(ingress.port) as client:
        assert (await client.send("a@b.test", ["c@d.test"], content)).code == 250
    (mail,) = ingress.accepted()
    received, _, rest = bytes(mail.content.inline).partition(b"+0000\r\n")
    assert received.count(b"\r\n") == 2
    assert rest == content


async def test_a_large_content_goes_to_the_store(ingress: RunningIngress, tmp_path: Path) -> None:
    content = b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 300_000
    async with SmtpClient(ingress.port) as client:
        assert (await client.send("a@b.test", ["c@d.test"], content)).code == 250
    (mail,) = ingress.accepted()
    stored = (tmp_path / "content" / mail.content.blob).read_bytes()
    assert len(stored) == mail.content.size
    assert stored.endswith(content)
    assert len(ingress.broker.published[0].body) < 1000


async def test_250_comes_only_after_the_confirm(ingress: RunningIngress) -> None:
    ingress.broker.stall()
    async with SmtpClient(ingress.port) as client:
        await begin(client)
        await client.write(b"x\r\n.\r\nNOOP\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(client.reply()), 0.05)
        ingress.broker.resume()
    assert len(await ingress.broker.wait_published(1)) == 1


async def test_replies_to_what_was_sent_meanwhile_follow_the_250(ingress: RunningIngress) -> None:
    ingress.broker.stall()
    async with SmtpClient(ingress.port) as client:
        await begin(client)
        await client.write(b"x\r\n.\r\nNOOP\r\nQUIT\r\n")
        await settled(ingress)
        ingress.broker.resume()
        codes = [(await client.reply()).code for _ in range(3)]
    assert codes == [250, 250, 221]


async def test_a_mail_is_taken_even_if_its_client_vanishes(ingress: RunningIngress) -> None:
    ingress.broker.stall()
    async with SmtpClient(ingress.port) as client:
        await begin(client)
        await client.write(b"x\r\n.\r\n")
        await settled(ingress)
        vanish(client)
    await settled(ingress)
    ingress.broker.resume()
    await ingress.broker.wait_published(1)
    assert len(ingress.accepted()) == 1


async def test_a_client_that_only_closes_its_half_still_gets_its_reply(
    ingress: RunningIngress,
) -> None:
    ingress.broker.stall()
    async with SmtpClient(ingress.port) as client:
        await begin(client)
        await client.write(b"x\r\n.\r\n")
        client._writer.write_eof()
        await settled(ingress)
        ingress.broker.resume()
        assert (await client.reply()).code == 250
        assert await until_closed(client) == b""


async def test_a_content_without_end_is_never_accepted(ingress: RunningIngress) -> None:
    async with SmtpClient(ingress.port) as client:
        await begin(client)
        await client.write(b"Subject: x\r\n\r\nbody\r\n.")
    await settled(ingress)
    assert ingress.accepted() == []


MOST_HELD = MOST_UNREAD + 2 * 262_144
"""Octets of input: what may wait, and a block of the loop on either side of it."""


async def flood(client: SmtpClient, octets: bytes) -> None:
    """Send without end, as fast as the server takes it."""
    client._writer.transport.set_write_buffer_limits(high=0)
    while True:
        await client.write(octets)


def only_session(ingress: RunningIngress) -> SmtpServer:
    (session,) = ingress.service._sessions._open
    assert isinstance(session, SmtpServer)
    return session


async def test_a_client_that_does_not_read_does_not_make_us_hold_more(
    ingress: RunningIngress,
) -> None:
    async with SmtpClient(ingress.port) as client:
        session = only_session(ingress)
        session._dialogue._budget = Budget(10**6, 10**6)  # or it would soon be over
        client._writer.transport.pause_reading()  # type: ignore[attr-defined]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flood(client, b"MAIL FROM:<bad>\r\n" * 10_000), 1.0)
        assert session._link.transport is not None
        assert len(session.lines) < MOST_HELD
        assert 0 < session._link.transport.get_write_buffer_size() < 2 * MOST_HELD
        client._writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(TIMEOUT):
            for _ in range(20_000):
                assert (await client.reply()).code == 501
        client._writer.transport.abort()


async def test_no_more_is_held_while_a_reply_is_owed(ingress: RunningIngress) -> None:
    ingress.broker.stall()
    async with SmtpClient(ingress.port) as client:
        session = only_session(ingress)
        await begin(client)
        await client.write(b"x\r\n.\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flood(client, b"MAIL FROM:<bad>\r\n" * 1000), 1.0)
        assert len(session.lines) < MOST_HELD
        ingress.broker.resume()
        assert (await client.reply()).code == 250
        assert (await client.reply()).code == 501
        client._writer.transport.abort()


async def test_sessions_beyond_the_limit_are_sent_away(tmp_path: Path) -> None:
    settings = ingress_settings(tmp_path, max_connections=2)
    async with (
        running_ingress(tmp_path, settings) as ingress,
        SmtpClient(ingress.port),
        SmtpClient(ingress.port) as second,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        assert (await reader.read()).startswith(b"421 4.3.2 Too many sessions")
        writer.close()
        await second.command("QUIT")
        await until_closed(second)
        async with SmtpClient(ingress.port) as third:
            assert (await third.command("NOOP")).code == 250


async def test_an_idle_session_is_ended(tmp_path: Path) -> None:
    settings = ingress_settings(tmp_path, command_timeout="200ms")
    async with running_ingress(tmp_path, settings) as ingress, SmtpClient(ingress.port) as client:
        assert (await until_closed(client)).startswith(b"421 4.4.2 ")


async def test_a_drip_of_content_is_idle_too(tmp_path: Path) -> None:
    settings = ingress_settings(tmp_path, command_timeout="300ms")
    async with running_ingress(tmp_path, settings) as ingress, SmtpClient(ingress.port) as client:
        await begin(client)

        async def drip() -> None:
            while True:
                await client.write(b"x")
                await asyncio.sleep(0.01)

        # What it says last may be lost: the client is still sending when the link is closed.
        with pytest.raises((ConnectionError, RuntimeError)):  # as uvloop has it
            await asyncio.wait_for(drip(), TIMEOUT)
        assert len(ingress.service._sessions) == 0


async def test_waiting_for_us_is_not_idle(tmp_path: Path) -> None:
    settings = ingress_settings(tmp_path, command_timeout="100ms")
    async with running_ingress(tmp_path, settings) as ingress, SmtpClient(ingress.port) as client:
        ingress.broker.stall()
        await begin(client)
        await client.write(b"x\r\n.\r\n")
        await asyncio.sleep(0.4)
        ingress.broker.resume()
        assert (await client.reply()).code == 250


async def test_a_drain_ends_idle_sessions_and_lets_a_transaction_finish(
    ingress: RunningIngress,
) -> None:
    async with SmtpClient(ingress.port) as idle, SmtpClient(ingress.port) as busy:
        await begin(busy)
        drain = asyncio.create_task(ingress.service.drain())
        assert (await idle.reply()).code == 421
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", ingress.port)
        assert not drain.done()
        await busy.write(b"x\r\n.\r\nMAIL FROM:<next@b.test>\r\n")
        assert (await busy.reply()).code == 250
        assert (await busy.reply()).code == 421
        await asyncio.wait_for(drain, TIMEOUT)
    assert len(ingress.accepted()) == 1


async def test_a_drain_waits_for_a_mail_whose_client_is_gone(ingress: RunningIngress) -> None:
    ingress.broker.stall()
    async with SmtpClient(ingress.port) as client:
        await begin(client)
        await client.write(b"x\r\n.\r\n")
        await settled(ingress)
        vanish(client)
    await settled(ingress)
    assert len(ingress.service._sessions) == 0
    drain = asyncio.create_task(ingress.service.drain())
    await settled(ingress)
    assert not drain.done()
    ingress.broker.resume()
    await asyncio.wait_for(drain, TIMEOUT)
    assert len(ingress.accepted()) == 1


async def test_a_drain_cuts_a_silent_transaction_off_in_time(tmp_path: Path) -> None:
    settings = ingress_settings(tmp_path).model_copy(
        update={"shutdown_grace": parse_duration_ms("200ms")}
    )
    async with running_ingress(tmp_path, settings) as ingress, SmtpClient(ingress.port) as client:
        await begin(client)
        await client.write(b"the first half")
        await asyncio.wait_for(ingress.service.drain(), TIMEOUT)
        assert (await until_closed(client)).startswith(b"421 4.3.2 ")
        assert ingress.accepted() == []


async def test_what_is_refused_and_accepted_is_counted(ingress: RunningIngress) -> None:
    def count(reason: str) -> float:
        return float(metrics.refused_messages.labels(reason)._value.get())

    accepted = metrics.accepted_messages.value
    sessions = metrics.sessions._value.get()
    before = {reason: count(reason) for reason in metrics.REFUSALS}
    async with SmtpClient(ingress.port) as client:
        assert metrics.sessions._value.get() == sessions + 1
        await client.send("a@b.test", ["c@d.test"], b"x\r\n")
        await client.command("BOGUS")
        await client.send("a@b.test", ["c@d.test"], b"x\ny\r\n")
        ingress.broker.fail(Refused("full"))
        await client.send("a@b.test", ["c@d.test"], b"x\r\n")
    assert metrics.accepted_messages.value == accepted + 1
    gone = {reason: count(reason) - before[reason] for reason in metrics.REFUSALS}
    assert {reason for reason, number in gone.items() if number == 1} == {
        "syntax",
        "content",
        "ours",
    }


async def test_a_fault_of_ours_in_a_session_is_told_without_detail_and_ends_it(
    ingress: RunningIngress,
) -> None:
    def fail() -> bool:
        raise RuntimeError("secret detail")

    async with SmtpClient(ingress.port) as client:
        only_session(ingress)._dialogue.blocked = fail
        await client.write(b"MAIL FROM:<a@b.test>\r\n")
        assert await until_closed(client) == b"451 4.3.0 Try again later\r\n"
