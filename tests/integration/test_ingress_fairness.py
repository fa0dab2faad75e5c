"""An honest client is served while others are many, slow, or from one place."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shared.open_files import allow_connections
from shared.smtp.server_replies import SHED
from tests.support.ingress import OPEN, ingress_settings, running_ingress, write_users
from tests.support.smtp_client import SmtpClient

CROWD = 2000
STRANGERS = {**OPEN, "relay_networks": [], "auth": "required", "auth_without_tls": True}


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    return reader, writer, await asyncio.wait_for(reader.readline(), 10)


async def test_two_thousand_slow_clients_do_not_hold_up_an_honest_one(tmp_path: Path) -> None:
    allow_connections(2 * CROWD)
    async with running_ingress(tmp_path, ingress_settings(tmp_path)) as ingress:
        clients = [await opened(ingress.port) for _ in range(CROWD)]
        dripping = True

        async def drip() -> None:
            while dripping:
                for _, writer, _ in clients:
                    writer.write(b"N")
                await asyncio.sleep(0.01)

        task = asyncio.create_task(drip())
        # It shares the loop with them all; while they drip, the time is that of the machine.
        async with asyncio.timeout(20.0), SmtpClient(ingress.port) as client:
            answer = await client.send("a@b.test", ["c@d.test"], b"Subject: x\r\n\r\n")
        assert answer.code == 250
        dripping = False
        await task
        for _, writer, _ in clients:
            writer.close()


async def test_idle_clients_that_fill_the_service_make_room_for_an_honest_one(
    tmp_path: Path,
) -> None:
    allow_connections(2 * CROWD)
    users = str(write_users(tmp_path, [{"username": "al", "password": "pw"}]))
    settings = ingress_settings(
        tmp_path,
        STRANGERS,
        credentials_file=users,
        max_connections=CROWD,
        max_connections_per_address=CROWD,
        connections_per_minute=10 * CROWD,
    )
    async with running_ingress(tmp_path, settings) as ingress:
        clients = [await opened(ingress.port) for _ in range(CROWD)]
        assert {client[2][:3] for client in clients} == {b"220"}
        assert len(ingress.service._sessions) == CROWD * 80 // 100
        # The first have had to leave for the last, and the next for an honest one from elsewhere.
        assert await asyncio.wait_for(clients[0][0].readline(), 10) == SHED.wire
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", ingress.port, local_addr=("127.1.2.3", 0)
        )
        for said, answered in (
            (b"", b"220"),
            (b"HELO x\r\n", b"250"),
            (b"EHLO x\r\n", b"250"),
            (b"AUTH PLAIN AGFsAHB3\r\n", b"235"),
            (b"MAIL FROM:<a@b.test>\r\n", b"250"),
            (b"RCPT TO:<c@d.test>\r\n", b"250"),
            (b"DATA\r\n", b"354"),
            (b"From: a@b.test\r\n\r\n.\r\n", b"250"),
        ):
            writer.write(said)
            line = await asyncio.wait_for(reader.readline(), 10)
            while line[3:4] == b"-":
                line = await asyncio.wait_for(reader.readline(), 10)
            assert line[:3] == answered
        for client in (*clients, (reader, writer, b"")):
            client[1].close()


async def test_strangers_of_one_place_share_its_sessions_and_trusted_clients_do_not(
    tmp_path: Path,
) -> None:
    users = str(write_users(tmp_path, [{"username": "al", "password": "pw"}]))
    settings = ingress_settings(
        tmp_path, STRANGERS, credentials_file=users, max_connections_per_address=2
    )
    async with running_ingress(tmp_path, settings) as ingress:
        first, second, third = [await opened(ingress.port) for _ in range(3)]
        assert [client[2][:3] for client in (first, second, third)] == [b"220", b"220", b"421"]
        first[1].close()
        assert await asyncio.wait_for(third[0].read(), 10) == b""
        while (again := await opened(ingress.port))[2][:3] != b"220":
            again[1].close()  # the server has not seen yet that the first has left
        for client in (second, third, again):
            client[1].close()
    settings = ingress_settings(tmp_path, max_connections_per_address=2)
    async with running_ingress(tmp_path, settings) as ingress:
        clients = [await opened(ingress.port) for _ in range(5)]
        assert {client[2][:3] for client in clients} == {b"220"}
        for client in clients:
            client[1].close()


async def test_a_process_that_is_short_of_memory_takes_nothing_new(tmp_path: Path) -> None:
    settings = ingress_settings(tmp_path, max_memory_bytes=1)
    async with running_ingress(tmp_path, settings) as ingress:
        async with asyncio.timeout(10):
            while (client := await opened(ingress.port))[
                2
            ] != b"421 4.3.2 Too busy, try again later\r\n":
                client[1].close()
                await asyncio.sleep(0.01)  # until the first look
        client[1].close()
