"""What the publishing connection does: pipelined publishes, each settled by its own confirm."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amqp import Message, spec

from shared.broker.amqp.ledger import Ledger
from shared.broker.amqp.link import Link, declare, tell
from shared.broker.interface import PublishError, Refused, Unavailable, Unroutable
from shared.broker.topology import Topology
from shared.logs import get_logger

PERSISTENT = 2
MEND_SECONDS = 5.0
"""How often the topology is declared again while messages come back unroutable."""


@dataclass(slots=True, eq=False)
class Publish:
    """One publish under way; `started` is monotonic seconds."""

    routing_key: str
    body: bytes
    message_id: str
    headers: Mapping[str, str]
    done: asyncio.Future[None]
    started: float = field(default_factory=time.monotonic)


Results = list[tuple[Publish, PublishError | None]]


class Publishing:
    """The work of the publishing link. Runs on its thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        report: Callable[[Results], None],
        confirm_timeout: float,
        topology: Topology,
    ) -> None:
        self._loop = loop
        self._report = report
        self._confirm_timeout = confirm_timeout
        self._topology = topology
        self._connection: Any = None
        self._channel: Any = None
        self._declare_again_at = 0.0
        self._ledger: Ledger[Publish] = Ledger()
        self._held: deque[Publish] = deque()
        self._results: Results = []
        self.link: Link[Publish] | None = None

    def opened(self, connection: Any) -> None:
        """See `Work.opened`."""
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
            return
        self._held.extend(commands)
        self._send()

    def _send(self) -> None:
        blocked = self.link is not None and self.link.blocked
        while self._held and not blocked:
            self._publish(self._held.popleft())

    def _publish(self, publish: Publish) -> None:
        message = Message(
            publish.body,
            delivery_mode=PERSISTENT,
            message_id=publish.message_id,
            content_type="application/octet-stream",
            content_encoding="binary",
        )
        if publish.headers:
            message.properties["application_headers"] = dict(publish.headers)
        # Noted before it is written: a publish that fails half-way has an unknown outcome too.
        self._ledger.published(publish.message_id, publish)
        arguments = (0, "", publish.routing_key, True, False)
        self._channel.send_method(spec.Basic.Publish, "Bssbb", arguments, message)

    def tick(self) -> None:
        """See `Work.tick`."""
        self._send()
        settled = self._ledger.take_settled()
        self._results.extend((publish, None) for publish in settled.stored)
        for publish in settled.refused:
            self._results.append((publish, Refused("the broker refused the message")))
        for publish in settled.returned:
            self._results.append((publish, Unroutable(f"no queue {publish.routing_key}")))
        self._check_patience()
        if self._results:
            results, self._results = self._results, []
            tell(self._loop, self._report, results)
        if settled.returned:
            self._mend(settled.returned[0].routing_key)

    def _mend(self, routing_key: str) -> None:
        now = time.monotonic()
        if self._connection is None or now < self._declare_again_at:
            return
        self._declare_again_at = now + MEND_SECONDS
        get_logger().error("a queue is missing: declaring all queues again", queue=routing_key)
        self._connection.transport.flush()
        declare(self._connection, self._topology)

    def _check_patience(self) -> None:
        horizon = time.monotonic() - self._confirm_timeout
        while self._held and self._held[0].started < horizon:
            error = Unavailable("the broker takes no messages")
            self._results.append((self._held.popleft(), error))
        oldest = self._ledger.oldest()
        if oldest is not None and oldest.started < horizon:
            # A late confirm must never be taken for another message: this channel is done with.
            get_logger().error("no confirm in time", waiting=len(self._ledger))
            raise ConnectionAbortedError("no confirm in time")

    def lost(self) -> None:
        """See `Work.lost`."""
        self._connection = self._channel = None
        error = Unavailable("the connection to the broker was lost before the confirm")
        unknown = [*self._ledger.abandon(), *self._held]
        self._held.clear()
        self._results.extend((publish, error) for publish in unknown)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._ledger.acknowledged(tag, multiple=multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._ledger.refused(tag, multiple=multiple)

    def _on_return(self, _error: Any, _exchange: str, _routing_key: str, message: Any) -> None:
        self._ledger.returned(message.properties["message_id"])
