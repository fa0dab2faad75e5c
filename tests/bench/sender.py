"""Load that smtp-source cannot make: pipelined envelopes, TLS.

A process of its own, `python -m tests.bench.sender PORT TLS REUSE OCTETS MESSAGES`: it ends with 0
once every message was answered 250.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Iterator
from typing import cast

import uvloop

from tests.bench.bare import BareClient, connect_bare
from tests.bench.prefill import SENDER, content

CONNECTIONS = 20
HOST, HELLO = "127.0.0.1", "bench.example"


async def _connect(port: int, context: ssl.SSLContext | None) -> BareClient:
    client = await connect_bare(HOST, port, HELLO)
    if context is not None:
        await client.exchange(b"STARTTLS\r\n", 1)
        await client.secure(context)
        await client.exchange(f"EHLO {HELLO}\r\n".encode(), 1)
    return client


async def _work(
    port: int, context: ssl.SSLContext | None, reuse: bool, body: bytes, left: Iterator[int]
) -> None:
    client = await _connect(port, context) if reuse else None
    for number in left:
        one = client or await _connect(port, context)
        await one.send(SENDER, f"user.{number}@sink.example", body)
        if client is None:
            await one.quit()
    if client is not None:
        await client.quit()


async def run(port: int, tls: bool, reuse: bool, octets: int, messages: int) -> None:
    """Send all. Raises ConnectionError if anything is refused."""
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    left, body = iter(range(messages)), content(octets)
    await asyncio.gather(*(_work(port, context, reuse, body, left) for _ in range(CONNECTIONS)))


if __name__ == "__main__":
    at, secure, keep, size, count = cast("list[int]", list(map(int, sys.argv[1:])))
    uvloop.run(run(at, bool(secure), bool(keep), size, count))
