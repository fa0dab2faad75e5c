"""A process that is served a single active queue until it is killed, on either broker.

`python -m tests.faults.broker_child URL PREFETCH`. It holds what it gets, and reports each on a
line of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys
from urllib.parse import urlsplit

from shared.broker.amqp.broker import AmqpBroker
from shared.broker.embedded.broker import EmbeddedBroker
from shared.broker.interface import Broker, Delivery
from shared.logs import configure_logging
from shared.settings.model import BrokerSettings, LoggingSettings
from tests.conformance.harness import lane, lane_topology


def make_broker(url: str) -> Broker:
    """The broker that the URL names, not started, with a lane `x` of one partition."""
    parts = urlsplit(url)
    if parts.scheme == "embedded":
        return EmbeddedBroker(parts.path, lane_topology(x=1))
    return AmqpBroker(BrokerSettings(url=url), lane_topology(x=1), "child")


def report(delivery: Delivery) -> None:
    """Straight to the pipe: a kill must not take lines with it."""
    os.write(sys.stdout.fileno(), f"{delivery.message_id}\n".encode())


async def main(url: str, prefetch: str) -> None:
    """Hold messages until the end."""
    configure_logging(LoggingSettings())  # to standard error: the reports have standard output
    broker = make_broker(url)
    await broker.start()
    broker.consume(lane(0), int(prefetch), report)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
