"""A real service on a broker that kills the process at a chosen custody point.

    python -m tests.support.killing_service SERVICE POINT NTH

The service's own code runs unchanged; only the broker it is built with is wrapped. `POINT` is one
of `Point`; the process dies by SIGKILL when it is reached for the NTH time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import cast

from shared.broker.interface import (
    Broker,
    Consumer,
    Delivery,
    EventLine,
    Handler,
    Listener,
    Outgoing,
    ParkReason,
)
from shared.service import Service, ServiceFactory, run_service
from shared.settings.load import load_settings
from shared.settings.model import Settings


class Point(StrEnum):
    """Where the process dies."""

    PUBLISH_BEGUN = "publish-begun"
    """A publish was handed to the broker; its confirm has not come."""
    PUBLISH_CONFIRMED = "publish-confirmed"
    """The confirm has come; the service does not know it yet."""
    SUCCESSORS_BEGUN = "successors-begun"
    """The service asked to forward; nothing is published."""
    SUCCESSORS_PART = "successors-part"
    """The first successor is confirmed, the others are not published."""
    SUCCESSORS_CONFIRMED = "successors-confirmed"
    """All successors are confirmed, the predecessor is not acknowledged."""
    SETTLING = "settling"
    """The work is done, nothing has to be published; the acknowledgement is not sent."""


class Executioner:
    """Counts how often the point was reached."""

    def __init__(self, point: Point, nth: int) -> None:
        self._point = point
        self._left = nth

    def at(self, point: Point) -> bool:
        """Whether this is the time."""
        if point is self._point:
            self._left -= 1
        return point is self._point and self._left == 0

    def reach(self, point: Point) -> None:
        """Die here if this is the point and the time."""
        if self.at(point):
            kill()


def kill() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


class KillingBroker:
    """The broker interface, handed through, except at the chosen point."""

    def __init__(self, inner: Broker, executioner: Executioner) -> None:
        self._inner = inner
        self._executioner = executioner

    @property
    def events(self) -> EventLine:
        return self._inner.events

    @property
    def usable(self) -> bool:
        return self._inner.usable

    @property
    def blocked(self) -> bool:
        return self._inner.blocked

    @property
    def hearing(self) -> bool:
        return self._inner.hearing

    async def start(self) -> None:
        await self._inner.start()

    async def wait_usable(self, timeout: float) -> None:
        await self._inner.wait_usable(timeout)

    def publish(self, message: Outgoing) -> asyncio.Future[None]:
        future = self._inner.publish(message)
        self._executioner.reach(Point.PUBLISH_BEGUN)
        future.add_done_callback(self._published)
        return future

    def _published(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._executioner.reach(Point.PUBLISH_CONFIRMED)

    def consume(self, queue: str, prefetch: int, handler: Handler) -> Consumer:
        def handle(delivery: Delivery) -> None:
            handler(KillingDelivery(delivery, self._inner, self._executioner))

        return self._inner.consume(queue, prefetch, handle)

    def announce(self, body: bytes) -> None:
        self._inner.announce(body)

    def listen(self, handler: Callable[[bytes], None]) -> Listener:
        return self._inner.listen(handler)

    async def left_over(self) -> Sequence[str]:
        return await self._inner.left_over()

    async def depths(self, queues: Collection[str] | None = None) -> Mapping[str, int]:
        return await self._inner.depths(queues)

    async def close(self) -> None:
        await self._inner.close()


class KillingDelivery:
    """One message, handed through, except at the chosen point."""

    def __init__(self, inner: Delivery, broker: Broker, executioner: Executioner) -> None:
        self._inner = inner
        self._broker = broker
        self._executioner = executioner
        self.queue = inner.queue
        self.body = inner.body
        self.message_id = inner.message_id
        self.headers = inner.headers
        self.attempts = inner.attempts

    def ack(self) -> None:
        self._executioner.reach(Point.SETTLING)
        self._inner.ack()

    def release(self) -> None:
        self._inner.release()

    def failed(self) -> None:
        self._inner.failed()

    def reject(self, reason: ParkReason, detail: str = "") -> asyncio.Future[None]:
        return self._inner.reject(reason, detail)

    def forward(
        self, successors: Sequence[Outgoing], *, lasting: bool = True
    ) -> asyncio.Future[None]:
        if not successors:
            self._executioner.reach(Point.SETTLING)
        else:
            self._executioner.reach(Point.SUCCESSORS_BEGUN)
            if len(successors) > 1 and self._executioner.at(Point.SUCCESSORS_PART):
                return self._publish_and_die(successors[:1])
            if self._executioner.at(Point.SUCCESSORS_CONFIRMED):
                return self._publish_and_die(successors)
        return self._inner.forward(successors, lasting=lasting)

    def _publish_and_die(self, successors: Sequence[Outgoing]) -> asyncio.Future[None]:
        confirms = [self._broker.publish(successor) for successor in successors]
        gathered = asyncio.gather(*confirms)
        gathered.add_done_callback(lambda _: kill())
        return cast("asyncio.Future[None]", gathered)


def main(name: str, point: Point, nth: int) -> int:
    """Run the service until it is killed or stopped; returns the exit code."""
    settings = load_settings(Path(os.environ["POSTROAD_CONFIG"]))
    build = cast("ServiceFactory", import_module(f"services.{name}.main").build)

    def build_killing(settings: Settings, broker: Broker) -> Service:
        return build(settings, KillingBroker(broker, Executioner(point, nth)))

    admin_port = int(getattr(settings.admin, f"{name}_port"))
    return run_service(name, build_killing, settings, admin_port)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Point(sys.argv[2]), int(sys.argv[3])))
