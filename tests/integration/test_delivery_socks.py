"""Delivery through an egress gateway that speaks SOCKS5."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from services.delivery.socks import connect_through, request
from tests.integration.test_delivery import TEXT, retried, rig
from tests.support.pipeline import free_port
from tests.support.socks_server import socks_server


async def test_mail_goes_through_the_gateway_and_tls_with_the_receiver(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.b.test").configure_cert(context)
    async with (
        socks_server() as gateway,
        rig(tmp_path, tls=context, socks5=f"127.0.0.1:{gateway.port}") as r,
    ):
        for _ in range(3):
            await r.give(r.job())
        mails = await r.receiver.wait_for(3)
        assert {mail.content for mail in mails} == {TEXT}
        assert all(mail.tls for mail in mails)
        assert set(gateway.asked) == {("127.0.0.1", r.receiver.port)}
        assert r.receiver.connections == len(gateway.asked)


async def test_without_one_nothing_is_asked_of_it(tmp_path: Path) -> None:
    async with socks_server() as gateway, rig(tmp_path) as r:
        await r.give(r.job())
        await r.receiver.wait_for(1)
        assert gateway.asked == []


@pytest.mark.parametrize(
    ("reply", "text"),
    [(2, "not allowed"), (4, "host unreachable"), (5, "connection refused"), (99, "failure 99")],
)
async def test_what_the_gateway_cannot_reach_is_tried_again(
    tmp_path: Path, reply: int, text: str
) -> None:
    async with socks_server() as gateway, rig(tmp_path, socks5=f"127.0.0.1:{gateway.port}") as r:
        gateway.reply = reply
        (later,) = await r.successors(r.job())
        assert retried(later).attempt == 1
        assert r.receiver.connections == 0
        with pytest.raises(ConnectionError, match=f"through the gateway: {text}"):
            await connect_through(("127.0.0.1", gateway.port), "192.0.2.1", 25)


async def test_a_gateway_that_is_not_there_is_named_and_mail_waits(tmp_path: Path) -> None:
    port = free_port()
    async with rig(tmp_path, socks5=f"127.0.0.1:{port}") as r:
        (later,) = await r.successors(r.job())
        assert retried(later).attempt == 1
    with pytest.raises(ConnectionError, match=f"gateway localhost:{port}: "):
        await connect_through(("localhost", port), "192.0.2.1", 25)


@pytest.mark.parametrize("greeting", [b"\x05\xff", b"220 mx.example ESMTP\r\n", b"\x04\x00"])
async def test_what_is_no_gateway_is_not_spoken_to(greeting: bytes) -> None:
    async with socks_server() as gateway:
        gateway.greeting = greeting
        with pytest.raises(ConnectionError, match="no SOCKS5 server without authentication"):
            await connect_through(("127.0.0.1", gateway.port), "192.0.2.1", 25)
        assert gateway.asked == []


async def test_a_silent_gateway_costs_no_more_than_the_time_to_connect(tmp_path: Path) -> None:
    async with socks_server() as gateway:
        gateway.silent = True
        where, soon = f"127.0.0.1:{gateway.port}", {"connect": "50ms"}
        async with rig(tmp_path, socks5=where, timeouts=soon) as r:
            (later,) = await r.successors(r.job())
            assert retried(later).attempt == 1


async def test_a_gateway_that_hangs_up_is_an_error_of_the_connection() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OSError, match=r"closed the connection|reset"):
            await connect_through(("127.0.0.1", port), "192.0.2.1", 25)


def test_a_request_has_address_and_port_as_the_standard_has_them() -> None:
    assert request("192.0.2.1", 25) == bytes((5, 1, 0, 1, 192, 0, 2, 1, 0, 25))
    v6 = request("2001:db8::1", 2525)
    assert v6[:4] == bytes((5, 1, 0, 4))
    assert v6[4:20] == bytes.fromhex("20010db8000000000000000000000001")
    assert v6[20:] == (2525).to_bytes(2, "big")
