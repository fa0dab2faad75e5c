"""Clients behind a balancer: their own address counts, and nobody else can claim one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from services.ingress.proxied import ProxiedServer
from services.ingress.sessions import Sessions
from shared.messages.model import AcceptedMail
from tests.support.ingress import OPEN, RunningIngress, ingress_settings, running_ingress

HEADER = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n"
MAIL = b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n"
BEHIND = {**OPEN, "proxy_networks": ["127.0.0.0/8"], "relay_networks": ["192.0.2.0/24"]}


async def said(reader: asyncio.StreamReader, until: bytes) -> bytes:
    async with asyncio.timeout(10):
        return await reader.readuntil(until)


async def received(ingress: RunningIngress, first: bytes) -> AcceptedMail:
    """A mail whose connection begins with these octets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
    writer.write(first + MAIL)
    await said(reader, b"354 End with <CRLF>.<CRLF>\r\n")
    writer.write(b"Subject: x\r\n\r\n.\r\n")
    await said(reader, b"250 2.0.0 Ok: queued")
    writer.close()
    return ingress.accepted()[-1]


async def test_the_client_is_who_the_balancer_says_however_the_header_comes(tmp_path: Path) -> None:
    async with running_ingress(tmp_path, ingress_settings(tmp_path, BEHIND)) as ingress:
        mail = await received(ingress, HEADER)
        assert b"([192.0.2.7])" in bytes(mail.content.inline)
        reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        for octet in HEADER:
            writer.write(bytes((octet,)))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await said(reader, b"\r\n")).startswith(b"220 ")
        writer.close()


@pytest.mark.parametrize("first", [b"EHLO x\r\n", b"PROXY TCP4 nobody 127.0.0.1 1 25\r\n"])
async def test_a_balancer_without_a_header_is_refused(tmp_path: Path, first: bytes) -> None:
    async with running_ingress(tmp_path, ingress_settings(tmp_path, BEHIND)) as ingress:
        reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        writer.write(first)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
        await received(ingress, HEADER)


async def test_a_balancer_that_says_nothing_is_not_waited_for() -> None:
    async def serve(client: socket.socket, address: str) -> None:
        raise AssertionError(address)

    sock = socket.create_server(("127.0.0.1", 0))
    sessions = Sessions(1, 60)
    server = ProxiedServer(sock, lambda _: True, serve, sessions, timeout=0.05)
    server.start(10)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    assert sessions.wait()  # it takes up no room any more
    writer.close()
    server.close()


async def test_a_header_that_is_waited_for_takes_up_a_session(tmp_path: Path) -> None:
    settings = ingress_settings(tmp_path, BEHIND, max_connections=1)
    async with running_ingress(tmp_path, settings) as ingress:
        silent, quiet = await asyncio.open_connection("127.0.0.1", ingress.port)
        reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        assert await asyncio.wait_for(reader.read(), 3) == b""  # before the first is given up
        quiet.write(HEADER)
        assert (await said(silent, b"\r\n")).startswith(b"220 ")
        for each in (writer, quiet):
            each.close()


async def test_who_is_no_balancer_cannot_claim_an_address(tmp_path: Path) -> None:
    listener = {**OPEN, "proxy_networks": ["192.0.2.0/24"]}
    async with running_ingress(tmp_path, ingress_settings(tmp_path, listener)) as ingress:
        reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        writer.write(HEADER)
        assert await said(reader, b"500 5.5.1 Command not recognized\r\n")
        writer.close()
        mail = await received(ingress, b"")
        assert b"([127.0.0.1])" in bytes(mail.content.inline)


async def test_a_balancer_lends_its_rights_to_nobody(tmp_path: Path) -> None:
    listener = {**OPEN, "proxy_networks": ["127.0.0.0/8"]}  # which may relay as well
    async with running_ingress(tmp_path, ingress_settings(tmp_path, listener)) as ingress:
        reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        writer.write(b"PROXY UNKNOWN\r\nHELO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n")
        assert await said(reader, b"550 5.7.1 Relaying denied\r\n")
        writer.close()


async def test_the_header_comes_before_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("mta.test")
    leaf.private_key_pem.write_to_path(tmp_path / "key")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "crt")
    tls = {"certificate": str(tmp_path / "crt"), "key": str(tmp_path / "key")}
    settings = ingress_settings(tmp_path, {**BEHIND, "tls": "implicit"}, tls=tls)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with running_ingress(tmp_path, settings) as ingress:
        reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        writer.write(HEADER)
        await writer.start_tls(context, server_hostname="mta.test")
        assert (await said(reader, b"\r\n")).startswith(b"220 ")
        writer.write(b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n")
        assert (await said(reader, b"250 2.1.5 Ok\r\n")).endswith(b"250 2.1.5 Ok\r\n")
        writer.close()
