"""What the publishing connection does: pipelined publishes, each settled by its own confirm."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from amqp.exceptions import AMQPError

from shared.broker.amqp.connection import MEND_SECONDS
from shared.broker.amqp.declaring import Declaration
from shared.broker.amqp.frames import publish_frames
from shared.broker.amqp.handover import tell
from shared.broker.amqp.ledger import Ledger, Settled
from shared.broker.interface import PublishError, Refused, Unavailable, Unroutable
from shared.logs import get_logger


class Publish:
    """One publish under way; `started` is monotonic seconds."""

    __slots__ = ("body", "done", "headers", "message_id", "routing_key", "started")

    def __init__(
        self,
        routing_key: str,
        body: bytes,
        message_id: str,
        headers: Mapping[str, str],
        done: asyncio.Future[None],
    ) -> None:
        self.routing_key = routing_key
        self.body = body
        self.message_id = message_id
        self.headers = headers
        self.done = done
        self.started = time.monotonic()


Results = list[tuple[Publish, PublishError | None]]


class Publishing:
    """The work of the publishing link. Runs on its thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        report: Callable[[Results], None],
        confirm_timeout: float,
        declaration: Declaration,
    ) -> None:
        self._loop = loop
        self._report = report
        self._confirm_timeout = confirm_timeout
        self._declaration = declaration
        self._connection: Any = None
        self._channel: Any = None
        self._blocked = False
        self._mend_at: float | None = None
        self._ledger: Ledger[Publish] = Ledger()
        self._held: deque[Publish] = deque()
        self._results: Results = []

    def opened(self, connection: Any) -> None:
        """See `Work.opened`."""
        self._declaration.ensure_lasting(connection)
        channel = connection.channel()
        channel.auto_decode = False
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._connection, self._channel = connection, channel

    def perform(self, commands: Sequence[Publish]) -> None:
        """See `Work.perform`. While the broker blocks, publishes wait here: it reads nothing."""
        if self._channel is None:
            error = Unavailable("no connection to the broker")
            self._results.extend((publish, error) for publish in commands)
        elif self._blocked:
            self._held.extend(commands)
        else:
            self._send(commands)

    def _send(self, publishes: Sequence[Publish]) -> None:
        connection, channel = self._connection, self._channel.channel_id
        keep = connection.transport.keep
        longest = connection.frame_max
        for publish in publishes:
            key, name = publish.routing_key, publish.message_id
            try:
                frames = publish_frames(
                    channel,
                    routing_key=key,
                    message_id=name,
                    headers=publish.headers,
                    body=publish.body,
                    longest_frame=longest,
                )
            except (AMQPError, ValueError) as error:
                # It would never go: the others must not lose their connection for it.
                self._results.append((publish, Refused(f"cannot be sent: {error}")))
                continue
            self._ledger.published((name, key), publish)
            keep(frames)

    def tick(self, *, blocked: bool) -> None:
        """See `Work.tick`."""
        self._blocked = blocked
        self._resume()
        self._collect(self._ledger.take_settled())
        self._check_patience()
        self._hand_over()
        if self._mend_at is not None and self._mend_at <= time.monotonic() and not blocked:
            self._mend_at = None
            self._declaration.renew(self._connection)
            self._collect(self._ledger.take_settled())
            self._hand_over()

    def _resume(self) -> None:
        if self._held and not self._blocked:
            held, self._held = self._held, deque()
            self._send(held)
            self._connection.transport.flush()

    def _collect(self, settled: Settled[Publish]) -> None:
        self._results.extend((publish, None) for publish in settled.stored)
        for publish in settled.refused:
            self._results.append((publish, Refused("the broker refused the message")))
        for publish in settled.returned:
            self._results.append((publish, Unroutable(f"no queue {publish.routing_key}")))
        if settled.returned and self._mend_at is None:
            queue = settled.returned[0].routing_key
            get_logger().error("a queue is missing: all will be declared again", queue=queue)
            self._mend_at = time.monotonic() + MEND_SECONDS

    def _hand_over(self) -> None:
        if self._results:
            results, self._results = self._results, []
            tell(self._loop, self._report, results)

    def _check_patience(self) -> None:
        horizon = time.monotonic() - self._confirm_timeout
        while self._held and self._held[0].started < horizon:
            error = Unavailable("the broker takes no messages")
            self._results.append((self._held.popleft(), error))
        oldest = self._ledger.oldest()
        if oldest is None or oldest.started >= horizon:
            return
        if not self._blocked:
            # A late confirm must never be taken for another message: this channel is done with.
            raise ConnectionAbortedError(f"no confirm in time, {len(self._ledger)} are waiting")
        # While blocked it is known why none comes. A new connection would not know of the alarm.
        error = Unavailable("the broker has not confirmed the message")
        late = self._ledger.expire(lambda publish: publish.started < horizon)
        self._results.extend((publish, error) for publish in late)

    def leave(self) -> Iterator[float]:
        """See `Work.leave`. Nothing is held back."""
        return iter(())

    def lost(self) -> None:
        """See `Work.lost`."""
        if self._connection is not None:
            self._declaration.doubt()
        self._connection = self._channel = None
        self._blocked = False
        error = Unavailable("the connection to the broker was lost before the confirm")
        self._mend_at = None  # a new connection begins with a declaration
        unknown = [*self._ledger.abandon(), *self._held]
        self._held.clear()
        self._results.extend((publish, error) for publish in unknown)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._ledger.acknowledged(tag, multiple=multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._ledger.refused(tag, multiple=multiple)

    def _on_return(self, _error: Any, _exchange: str, routing_key: str, message: Any) -> None:
        self._ledger.returned((message.properties["message_id"], routing_key))
