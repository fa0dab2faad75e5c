"""What counts before there is a session: handshakes, and exchanges that come to nothing."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from services.ingress.tls import HANDSHAKE_TIMEOUT
from tests.support.ingress import running_ingress
from tests.support.tls_site import Site, make_site

TIMEOUT = 10.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


async def test_connections_count_before_their_handshake(site: Site) -> None:
    settings = site.settings(tls="implicit")
    ingress_keys = settings.ingress.model_copy(update={"max_connections_per_address": 1})
    settings = settings.model_copy(update={"ingress": ingress_keys})
    async with running_ingress(site.folder, settings) as ingress:
        _, silent = await asyncio.open_connection("127.0.0.1", ingress.port)
        refused, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        assert await asyncio.wait_for(refused.read(), HANDSHAKE_TIMEOUT / 2) == b""
        silent.close()  # makes room, before its time is over
        async with asyncio.timeout(TIMEOUT):
            greeting = b""
            while not greeting:
                with contextlib.suppress(OSError):
                    reader, other = await asyncio.open_connection(
                        "127.0.0.1", ingress.port, ssl=site.client
                    )
                    greeting = await reader.readline()
        assert greeting.startswith(b"220 ")
        for each in (writer, other):
            each.close()


async def test_a_handshake_under_way_is_shed_for_others(site: Site) -> None:
    settings = site.settings(tls="implicit")
    ingress_keys = settings.ingress.model_copy(
        update={"max_connections": 1, "reserved_connections": 0}
    )
    settings = settings.model_copy(update={"ingress": ingress_keys})
    async with running_ingress(site.folder, settings) as ingress:
        silent, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        reader, other = await asyncio.open_connection("127.0.0.1", ingress.port, ssl=site.client)
        async with asyncio.timeout(HANDSHAKE_TIMEOUT / 2):
            assert (await reader.readline()).startswith(b"220 ")
            with contextlib.suppress(ConnectionResetError):
                assert await silent.read() == b""
        for each in (writer, other):
            each.close()


@pytest.mark.parametrize("line", [b"AUTH PLAIN !\r\n", b"AUTH LOGIN\r\n*\r\n", b"AUTH NONE\r\n"])
async def test_exchanges_that_come_to_nothing_use_up_the_errors(site: Site, line: bytes) -> None:
    settings = site.settings(tls="none", auth_without_tls=True)
    async with running_ingress(site.folder, settings) as ingress:
        reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
        writer.write(b"EHLO x\r\n")
        for _ in range(settings.ingress.max_errors):
            writer.write(line)
        async with asyncio.timeout(TIMEOUT):
            said = await reader.read()
        assert said.endswith(b"\r\n421 4.7.0 Too many errors\r\n")
        writer.close()
