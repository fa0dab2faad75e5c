"""Announcements over RabbitMQ: a connection of its own, opened by whoever first speaks or listens.

Its own, because an alarm of the broker stops everything that a publishing connection sends. While
that lasts nothing is announced, and nobody is heard: `Line.hearing` says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from amqp import spec
from amqp.basic_message import Message

from shared.broker.amqp.connection import LinkOptions
from shared.broker.amqp.handover import tell
from shared.broker.amqp.link import Link
from shared.broker.topology import MEMBERS
from shared.logs import get_logger

LONGEST_QUEUE = 1000
"""Announcements that wait for one process; the oldest are dropped first."""
_TRANSIENT = 1


class Members:
    """The work of the link for announcements. Runs on its thread."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, deliver: Callable[[list[bytes]], None]
    ) -> None:
        self._loop = loop
        self._deliver = deliver
        self._channel: Any = None
        self._blocked = False
        self._arrived: list[bytes] = []

    def opened(self, connection: Any) -> None:
        """See `Work.opened`: an exclusive queue, which goes with the connection."""
        channel = connection.channel()
        channel.auto_decode = False
        channel.exchange_declare(MEMBERS, "fanout", durable=True, auto_delete=False)
        arguments = {"x-max-length": LONGEST_QUEUE}
        queue = channel.queue_declare("", exclusive=True, auto_delete=True, arguments=arguments)
        channel.queue_bind(queue.queue, MEMBERS)
        channel.basic_consume(
            queue.queue, no_ack=True, callback=self._received, on_cancel=self._on_cancel
        )
        self._channel = channel

    def _received(self, message: Any) -> None:
        self._arrived.append(message.body or b"")  # py-amqp gives text for an empty body

    def _on_cancel(self, _tag: str) -> None:
        raise ConnectionAbortedError("the queue for announcements is gone")

    def perform(self, commands: Sequence[bytes]) -> None:
        """See `Work.perform`. What cannot be said now is not worth saying later."""
        if self._channel is None or self._blocked:
            return
        for body in commands:
            message = Message(body, delivery_mode=_TRANSIENT)
            arguments = (0, MEMBERS, "", False, False)
            self._channel.send_method(spec.Basic.Publish, "Bssbb", arguments, message)

    def tick(self, *, blocked: bool) -> None:
        """See `Work.tick`."""
        self._blocked = blocked
        if self._arrived:
            arrived, self._arrived = self._arrived, []
            tell(self._loop, self._deliver, arrived)

    def leave(self) -> Iterator[float]:
        """See `Work.leave`. Nothing is held back."""
        return iter(())

    def lost(self) -> None:
        """See `Work.lost`."""
        self._channel = None
        self._arrived = []


class AmqpListener:
    """See `shared.broker.interface.Listener`."""

    def __init__(
        self, handler: Callable[[bytes], None], end: Callable[[AmqpListener], None]
    ) -> None:
        self._end = end
        self.handler = handler

    async def stop(self) -> None:
        """No further call of the handler will come."""
        self._end(self)


class Line:
    """The loop's side: who listens here, and the link, once there is need of one."""

    def __init__(self, options: LinkOptions) -> None:
        self._options = options
        self._link: Link[bytes] | None = None
        self._listeners: dict[AmqpListener, None] = {}

    @property
    def hearing(self) -> bool:
        """See `Broker.hearing`."""
        link = self._link
        return bool(self._listeners) and link is not None and link.connected and not link.blocked

    def announce(self, body: bytes) -> None:
        """See `Broker.announce`."""
        link = self._opened()
        if link.connected and not link.blocked:
            link.commands.submit(body)

    def listen(self, handler: Callable[[bytes], None]) -> AmqpListener:
        """See `Broker.listen`."""
        self._opened()
        listener = AmqpListener(handler, self._forget)
        self._listeners[listener] = None
        return listener

    def _forget(self, listener: AmqpListener) -> None:
        self._listeners.pop(listener, None)

    def _opened(self) -> Link[bytes]:
        if self._link is None:
            loop = asyncio.get_running_loop()
            self._link = Link(self._options, Members(loop, self._hand_out), loop)
            self._link.start()
        return self._link

    def _hand_out(self, bodies: list[bytes]) -> None:
        for body in bodies:
            for listener in tuple(self._listeners):
                if listener in self._listeners:
                    _tell(listener, body)

    async def close(self, timeout: float) -> None:
        """Call no listener again, and disconnect."""
        self._listeners.clear()
        if self._link is not None:
            await self._link.stop(timeout)


def _tell(listener: AmqpListener, body: bytes) -> None:
    try:
        listener.handler(body)
    except Exception:
        get_logger().exception("a listener failed")
