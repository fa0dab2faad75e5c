"""CPU of the SMTP client alone, against smtp-sink: `python -m tests.bench.engine`.

The bare client writes what a client must write and reads no more than the codes of the replies: the
floor of asyncio. Both take turns in one process, so that their ratio holds on a noisy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import random
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import cast

import uvloop

from services.delivery.attempt import Limits, transact
from services.delivery.hop import NextHop
from services.delivery.opening import Opener
from services.delivery.work import Walk
from shared.dns.answers import AddressAnswer, MxAnswer, NoRecords
from shared.messages.model import Content, DeliveryJob, MailExchanger, Recipient
from shared.messages.outcome import Delivered
from shared.settings.model import Settings
from tests.support.pipeline import free_port
from tests.support.postfix import tool

CONNECTIONS = 20
ROUNDS = 3
Send = Callable[[int], Awaitable[None]]


class NoNames:
    """The name service is not asked: hosts are addresses."""

    async def mail_exchangers(self, domain: str) -> MxAnswer:
        return NoRecords()

    async def addresses(self, host: str) -> AddressAnswer:
        raise AssertionError(host)


class Bare(asyncio.Protocol):
    """Counts replies."""

    def __init__(self) -> None:
        self.left = 1
        self.rest = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\r\n")
        self.left -= sum(line[3:4] != b"-" for line in lines)
        if self.left <= 0 and not self.done.done():
            self.done.set_result(None)

    async def ask(self, data: bytes, replies: int) -> None:
        self.left, self.done = replies, asyncio.get_running_loop().create_future()
        self.transport.write(data)
        await self.done


def text(octets: int) -> bytes:
    line = b"x" * 76 + b"\r\n"
    return b"Subject: bench\r\n\r\n" + line * (octets // len(line))


class Bench:
    """Ways to send `content`, one connection a message or one for all of them."""

    def __init__(self, port: int, octets: int) -> None:
        self._content = text(octets)
        self._port = port
        self._opener = Opener(Settings(hostname="bench.test"), NoNames(), random.Random(1))
        self._job = DeliveryJob(
            "job",
            "mail",
            time.time(),
            "load@bench.example",
            (Recipient("sink@sink.example"),),
            Content(len(self._content), memoryview(self._content)),
            "sink.example",
            (MailExchanger(10, "127.0.0.1", port),),
            static=True,
        )

    async def engine(self, count: int) -> None:
        hop = await self._open()
        link, offered = hop.link, hop.extensions
        for _ in range(count):
            result = await transact(link, offered, self._job, self._content, Limits())
            assert isinstance(result.outcomes[0], Delivered), result
        await hop.leave()

    async def _open(self) -> NextHop:
        walk = Walk(not_after=asyncio.get_running_loop().time() + 60)
        hop = await self._opener.open(self._job, walk)
        assert isinstance(hop, NextHop), hop
        return hop

    async def bare(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        _, peer = await loop.create_connection(Bare, "127.0.0.1", self._port)
        await peer.done
        await peer.ask(b"EHLO bench.test\r\n", 1)
        envelope = b"MAIL FROM:<load@bench.example>\r\nRCPT TO:<sink@sink.example>\r\nDATA\r\n"
        for _ in range(count):
            await peer.ask(envelope, 3)
            await peer.ask(self._content + b".\r\n", 1)
        await peer.ask(b"QUIT\r\n", 1)
        peer.transport.close()


async def cpu(send: Send, messages: int, per_connection: int) -> float:
    """Seconds of CPU a message, over `CONNECTIONS` at a time."""
    before = time.process_time()

    async def sender() -> None:
        for _ in range(messages // CONNECTIONS // per_connection):
            await send(per_connection)

    await asyncio.gather(*[sender() for _ in range(CONNECTIONS)])
    return (time.process_time() - before) / messages


async def compare(bench: Bench, messages: int, per_connection: int, title: str) -> None:
    engine, bare = [], []
    for _ in range(ROUNDS):
        bare.append(await cpu(bench.bare, messages, per_connection))
        engine.append(await cpu(bench.engine, messages, per_connection))
    best, floor = min(engine) * 1000, min(bare) * 1000
    print(f"{title:<28}{best:8.4f} ms   bare {floor:8.4f} ms   ratio {best / floor:5.2f}")


def wait_for_port(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("smtp-sink does not listen")


async def run(messages: int, profile: str) -> None:
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    sink = subprocess.Popen([tool("smtp-sink"), *user, f"127.0.0.1:{port}", "1000"])
    try:
        wait_for_port(port)
        await measure(port, messages, profile)
    finally:
        sink.kill()
        sink.wait()


async def measure(port: int, messages: int, profile: str) -> None:
    small, large = Bench(port, 4096), Bench(port, 1 << 20)
    if profile:
        profiler = cProfile.Profile()
        profiler.enable()
        await cpu(small.engine, messages, 100 if profile == "reused" else 1)
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
        return
    await compare(small, messages, 100, "4 KB, reused")
    await compare(small, messages // 4, 1, "4 KB, new connection")
    await compare(large, 400, 20, "1 MB, reused")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--profile", choices=("", "reused", "new"), default="")
    arguments = parser.parse_args()
    uvloop.run(run(arguments.messages, arguments.profile))


if __name__ == "__main__":
    main()
