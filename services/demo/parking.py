"""Reads the parking queue and leaves it as it is: the account needs it when mail was parked."""

from __future__ import annotations

import asyncio
import contextlib

from shared.broker.connect import connect_broker
from shared.broker.interface import Broker, Delivery
from shared.broker.topology import PARKED
from shared.messages.codec import CodecError, Message, decode
from shared.settings.model import Settings

USABLE_TIMEOUT = 10.0
READ_TIMEOUT = 5.0
MOST = 10_000
"""Parked messages that are looked at."""


async def read_parked(settings: Settings) -> list[Message]:
    """The parked messages that can be decoded. Raises `Unavailable` when the broker is away."""
    broker = connect_broker(settings, "demo")
    await broker.start()
    try:
        await broker.wait_usable(USABLE_TIMEOUT)
        return await _read(broker)
    finally:
        await broker.close()


async def _read(broker: Broker) -> list[Message]:
    depth = min((await broker.depths())[PARKED], MOST)
    seen: list[Delivery] = []
    complete = asyncio.Event()

    def take(delivery: Delivery) -> None:
        seen.append(delivery)
        if len(seen) >= depth:
            complete.set()

    if depth:
        consumer = broker.consume(PARKED, depth, take)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_TIMEOUT):
                await complete.wait()
        await consumer.stop()
    for delivery in seen:
        delivery.release()
    return [message for delivery in seen if (message := _decoded(delivery)) is not None]


def _decoded(delivery: Delivery) -> Message | None:
    try:
        return decode(delivery.body)
    except CodecError:
        return None
