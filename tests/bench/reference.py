"""What sending costs without postroad: aiosmtplib as it is, and no more than a bare protocol.

A process of its own, `python -m tests.bench.reference CLIENT REUSE PORT OCTETS MESSAGES`, which
prints the CPU milliseconds a message that it took, without its start.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiosmtplib
import uvloop

from tests.bench.bare import connect_bare
from tests.bench.figures import BenchError
from tests.bench.load import Sink
from tests.bench.prefill import SENDER, content
from tests.support.pipeline import ROOT

CONNECTIONS = 20
"""As many as postroad opens to one site by default."""
AIOSMTPLIB, BARE = "aiosmtplib", "bare"
HOST, HELLO = "127.0.0.1", "bench.example"
TIMEOUT = 120.0

Send = Callable[[str], Awaitable[None]]


@asynccontextmanager
async def aiosmtplib_connection(port: int, body: bytes) -> AsyncIterator[Send]:
    """Its client with its `sendmail`, no TLS."""
    client = aiosmtplib.SMTP(hostname=HOST, port=port, local_hostname=HELLO, start_tls=False)

    async def send(address: str) -> None:
        await client.sendmail(SENDER, [address], body)

    async with client:
        yield send


@asynccontextmanager
async def bare_connection(port: int, body: bytes) -> AsyncIterator[Send]:
    """See `tests.bench.bare`."""
    client = await connect_bare(HOST, port, HELLO)

    async def send(address: str) -> None:
        await client.send(SENDER, address, body)

    yield send
    await client.quit()


CLIENTS = {AIOSMTPLIB: aiosmtplib_connection, BARE: bare_connection}


async def run(client: str, reuse: bool, port: int, octets: int, messages: int) -> float:
    """CPU milliseconds a message, after a first one on each connection."""
    body, connection = content(octets), CLIENTS[client]

    async def send_once(address: str) -> None:
        async with connection(port, body) as send:
            await send(address)

    async with AsyncExitStack() as stack:
        sends: list[Send] = [send_once] * CONNECTIONS
        if reuse:
            made = [connection(port, body) for _ in range(CONNECTIONS)]
            sends = [await stack.enter_async_context(one) for one in made]
        await asyncio.gather(*(send(f"first.{n}@sink.example") for n, send in enumerate(sends)))
        left = iter(range(messages))
        started = time.process_time()
        await asyncio.gather(*(_work(send, left) for send in sends))
        return (time.process_time() - started) * 1000 / messages


async def _work(send: Send, left: Iterator[int]) -> None:
    for number in left:
        await send(f"user.{number}@sink.example")


def measure(client: str, reuse: bool, sink: Sink, octets: int, messages: int) -> float:
    """CPU milliseconds a message of a client, against the sink. Raises `BenchError`."""
    came = sink.count
    arguments = [client, str(int(reuse)), str(sink.port), str(octets), str(messages)]
    command = [sys.executable, "-m", "tests.bench.reference", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            sink.poll()
            time.sleep(0.01)
        process.kill()
        printed, _ = process.communicate()
    if process.returncode or sink.poll() - came != messages + CONNECTIONS:
        raise BenchError(f"{client}: {sink.count - came} messages at the sink")
    return float(printed)


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    reused, at, size, count = map(int, numbers)
    print(uvloop.run(run(name, bool(reused), at, size, count)))
