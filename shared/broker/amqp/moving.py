"""Moves the messages of one queue to another, each confirmed before it is acknowledged.

Blocks, on a connection of its own. A kill in the middle makes copies, of one batch at most; nothing
is lost.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from shared.broker.amqp.frames import publish_frames
from shared.broker.amqp.ledger import Ledger
from shared.broker.migration import MigrationError

BATCH = 100
"""Messages that are published before any of them is acknowledged: as many may come twice."""
LOOK_SECONDS = 0.2
PATIENCE_SECONDS = 60.0
"""How long a message, or a confirm, may take to come."""
_COUNTS = ("x-delivery", "x-acquired")


class Move:
    """One move from `source` to `target`; nobody else consumes either."""

    def __init__(self, connection: Any, source: str, target: str, batch: int = BATCH) -> None:
        self._connection = connection
        self._source = source
        self._target = target
        self._batch = batch
        self._arrived: deque[Any] = deque()
        self._ledger: Ledger[Any] = Ledger()
        self._moved = 0
        self._out = self._open_out()
        self._in: Any = None

    def _open_out(self) -> Any:
        channel = self._connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        return channel

    def run(self) -> int:
        """Move all there is; returns how many. Raises `MigrationError`."""
        while waiting := self._waiting():
            self._take(waiting)
        self._out.close()
        return self._moved

    def _waiting(self) -> int:
        return int(self._out.queue_declare(self._source, passive=True).message_count)

    def _take(self, count: int) -> None:
        self._in = channel = self._connection.channel()
        channel.auto_decode = False
        channel.basic_qos(0, self._batch, False)
        tag = channel.basic_consume(self._source, callback=self._arrived.append)
        enough = self._moved + count
        while self._moved < enough:
            self._await_arrivals()
            self._move_batch()
        channel.basic_cancel(tag)
        while self._arrived:  # what came before the answer
            self._move_batch()
        channel.close()

    def _await_arrivals(self) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not self._arrived:
            if time.monotonic() > until:
                raise MigrationError(f"{self._source}: messages that are there do not come")
            self._pump()

    def _move_batch(self) -> None:
        batch = [self._arrived.popleft() for _ in range(min(self._batch, len(self._arrived)))]
        for message in batch:
            self._publish(message)
        self._connection.transport.flush(wait=True)
        self._await_confirms()
        # custody: all of the batch is confirmed in the other queue; only now may it leave this one.
        self._in.basic_ack(batch[-1].delivery_info["delivery_tag"], multiple=True)
        self._moved += len(batch)

    def _publish(self, message: Any) -> None:
        name = str(message.properties.get("message_id", ""))
        frames = publish_frames(
            self._out.channel_id,
            routing_key=self._target,
            message_id=name,
            headers=_headers(message.properties),
            body=message.body or b"",  # py-amqp gives text for an empty body
            longest_frame=self._connection.frame_max,
        )
        self._ledger.published((name, self._target), message)
        self._connection.transport.keep(frames)

    def _await_confirms(self) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while self._ledger:
            self._pump()
            settled = self._ledger.take_settled()
            if settled.refused or settled.returned or time.monotonic() > until:
                raise MigrationError(f"{self._target}: the broker does not take a message")

    def _pump(self) -> None:
        """Read what has come, or comes within a moment."""
        transport = self._connection.transport
        if not transport.has_frame():
            if not transport.has_more() and not _readable(transport.sock):
                return
            transport.fill()
        for frame in transport.frames():
            self._connection.on_inbound_frame(frame)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._ledger.acknowledged(tag, multiple=multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._ledger.refused(tag, multiple=multiple)

    def _on_return(self, _error: Any, _exchange: str, routing_key: str, message: Any) -> None:
        self._ledger.returned((message.properties["message_id"], routing_key))


def _headers(properties: Mapping[str, Any]) -> dict[str, Any]:
    """All but the counts: what the broker noted of a message that it has parked stays."""
    table = properties.get("application_headers") or {}
    return {name: value for name, value in table.items() if not name.startswith(_COUNTS)}


def _readable(sock: Any) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(LOOK_SECONDS * 1000))
