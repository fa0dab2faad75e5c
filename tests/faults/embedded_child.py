"""A process that uses an embedded store until it is killed, and reports each step on a line.

`python -m tests.faults.embedded_child ROLE DIRECTORY NAME`. A line is written only after the fact
it reports, or, for acknowledgements, which have no confirm, just before the verb.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

from shared.broker.embedded.broker import EmbeddedBroker
from shared.broker.interface import Delivery, Outgoing
from shared.logs import configure_logging
from shared.settings.model import LoggingSettings
from tests.conformance.harness import OTHER, WORK, small_topology

IN_FLIGHT = 30


def report(line: str) -> None:
    """Straight to the pipe: a kill must not take lines with it."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


def publish(broker: EmbeddedBroker, name: str) -> None:
    """Publish numbered messages for ever, some at once; report those that are confirmed."""
    count = 0

    def another() -> None:
        nonlocal count
        count += 1
        message_id = f"{name}-{count}"
        future = broker.publish(Outgoing(WORK, message_id.encode() * 200, message_id))
        future.add_done_callback(lambda done: confirmed(done, message_id))

    def confirmed(done: asyncio.Future[None], message_id: str) -> None:
        done.result()
        report(message_id)
        another()

    for _ in range(IN_FLIGHT):
        another()


def forward(broker: EmbeddedBroker, _: str) -> None:
    """Move messages on; report those that have moved."""

    def handle(delivery: Delivery) -> None:
        successor = Outgoing(OTHER, delivery.body, delivery.message_id)
        moved = delivery.forward([successor])
        moved.add_done_callback(lambda _: report(delivery.message_id))

    broker.consume(WORK, IN_FLIGHT, handle)


def acknowledge(broker: EmbeddedBroker, _: str) -> None:
    """Report and acknowledge messages."""

    def handle(delivery: Delivery) -> None:
        report(delivery.message_id)
        delivery.ack()

    broker.consume(OTHER, IN_FLIGHT, handle)


def hold(broker: EmbeddedBroker, _: str) -> None:
    """Report messages and keep them."""
    broker.consume(WORK, IN_FLIGHT, lambda delivery: report(delivery.message_id))


ROLES: dict[str, Callable[[EmbeddedBroker, str], None]] = {
    "publish": publish,
    "forward": forward,
    "acknowledge": acknowledge,
    "hold": hold,
}


async def main(role: str, directory: str, name: str) -> None:
    """Play one role until the end."""
    configure_logging(LoggingSettings())  # to standard error: the reports have standard output
    broker = EmbeddedBroker(directory, small_topology())
    await broker.start()
    ROLES[role](broker, name)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
