"""The receivers' process: one receiver for each domain of the plan, reports on standard output.

Started by the demo as `python -m services.demo.receivers`; ends when its standard input does, so
that it never outlives the demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator

import uvloop

from services.demo.plan import DIGEST_HEADER, ID_HEADER, SCRIPTS, SENDER_DOMAIN
from services.demo.receiver import Receiver
from services.demo.reports import (
    Arrived,
    Bounced,
    Listening,
    Report,
    failed_recipients,
    write_report,
)
from services.demo.script import Received

INTERVAL = 0.05
"""Seconds between reports; the times in them are those of the arrivals."""


def main() -> None:
    """Run until standard input ends."""
    uvloop.run(_serve())


async def _serve() -> None:
    async with contextlib.AsyncExitStack() as stack:
        receivers = {domain: _receiver(domain) for domain in SCRIPTS}
        for receiver in receivers.values():
            await stack.enter_async_context(receiver)
        _write([Listening({domain: receiver.port for domain, receiver in receivers.items()})])
        ended = asyncio.create_task(_input_ends())
        while not ended.done():
            await asyncio.wait([ended], timeout=INTERVAL)
            for domain, receiver in receivers.items():
                _write(list(_reports(domain, receiver)))


def _receiver(domain: str) -> Receiver:
    return Receiver(SCRIPTS[domain], keep="all" if domain == SENDER_DOMAIN else "headers")


async def _input_ends() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def _reports(domain: str, receiver: Receiver) -> Iterator[Report]:
    """Reports about what came since the last time; it is forgotten then."""
    received, receiver.messages = receiver.messages, []
    for one in received:
        yield _bounced(one) if domain == SENDER_DOMAIN else _arrived(one, receiver)


def _bounced(received: Received) -> Bounced:
    demo_id = received.recipients[0].partition("@")[0]
    return Bounced(demo_id, failed_recipients(received.content))


def _arrived(received: Received, receiver: Receiver) -> Arrived:
    was_greylisted = receiver.was_greylisted
    return Arrived(
        received.header_value(ID_HEADER),
        received.recipients,
        tuple(p for p in received.recipients if was_greylisted(received.reverse_path, p)),
        received.at,
        received.header_value(DIGEST_HEADER) == received.body_digest,
    )


def _write(reports: list[Report]) -> None:
    if reports:
        sys.stdout.buffer.write(b"".join(map(write_report, reports)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
