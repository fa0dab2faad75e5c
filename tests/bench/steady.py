"""A steady load: so many messages a second, whatever becomes of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from tests.bench.figures import BenchError
from tests.bench.prefill import SENDER, content
from tests.support.smtp_client import SmtpClient

SESSIONS = 20


async def send_steadily(
    port: int, addresses: Sequence[str], rate: float, octets: int
) -> dict[str, float]:
    """Send one message to each address in turn; returns when each was answered 250.

    The result tells when, by `time.monotonic()`. Each message has its time, whether those before
    it were answered or not, so that a system which falls behind is not spared. Raises
    `BenchError` if ingress refuses one, or ConnectionError.
    """
    accepted: dict[str, float] = {}
    body = content(octets)
    left = iter(enumerate(addresses))
    started = time.monotonic()

    async def session() -> None:
        async with SmtpClient(port) as client:
            for number, address in left:
                await asyncio.sleep(started + number / rate - time.monotonic())
                answer = await client.send(SENDER, [address], body)
                if answer.code != 250:
                    raise BenchError(f"ingress answered {answer.code} {answer.text}")
                accepted[address] = time.monotonic()

    await asyncio.gather(*(session() for _ in range(SESSIONS)))
    return accepted
