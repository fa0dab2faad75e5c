"""One thread that owns one kombu connection: connecting, waiting, heartbeats, loss.

What is done on the connection is the business of `Work`. Commands come from the asyncio loop
through `commands`, a batch at a time; results go back in batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from amqp.exceptions import AMQPError
from kombu.exceptions import KombuError

from shared import metrics
from shared.broker.amqp.connection import LinkOptions, connect
from shared.broker.amqp.handover import Handover
from shared.logs import get_logger

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 10.0
LONGEST_ROUND_SECONDS = 1.0
"""How often at least the thread looks whether something has waited too long."""
ABORT_SECONDS = 1.0

_LINK_ERRORS = (AMQPError, KombuError, OSError)
"""What closing a connection that is broken anyway may raise."""
Command_contra = TypeVar("Command_contra", contravariant=True)
Command = TypeVar("Command")


class Work(Protocol[Command_contra]):
    """What one kind of connection does. All methods are called on the thread."""

    def opened(self, connection: Any) -> None:
        """A new connection: declare what is needed, open channels, consume."""

    def perform(self, commands: Sequence[Command_contra]) -> None:
        """Carry out what the loop asked for; on no connection, answer that it is gone."""

    def tick(self, *, blocked: bool) -> None:
        """Called after every round: hand results to the loop, check what has waited too long."""

    def leave(self) -> Iterator[float]:
        """Called before an orderly close: write what was held back, and pause each time so long."""

    def lost(self) -> None:
        """The connection is gone: everything that was under way on it has an unknown outcome."""


class Link(Generic[Command]):
    """See the module. `connected` and `blocked` are read on the loop, written on the thread."""

    def __init__(
        self, options: LinkOptions, work: Work[Command], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._options = options
        self._work = work
        self._poll = select.poll()
        self._descriptor = -1
        self._events = 0
        self._stopping = False
        self._connection: Any = None
        self._socket: Any = None
        self._ended = threading.Event()
        self.commands: Handover[Command] = Handover(loop)
        self.connected = False
        self.blocked = False

    def start(self) -> None:
        """Connect and serve until `stop`."""
        self._poll.register(self.commands, select.POLLIN)
        name = f"amqp-{self._options.name}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def stop(self, timeout: float) -> None:
        """Do what was submitted, disconnect and end the thread, within about `timeout` seconds."""
        self._stopping = True
        self.commands.ring()
        if not await asyncio.to_thread(self._ended.wait, timeout):
            self._abort()
            await asyncio.to_thread(self._ended.wait, ABORT_SECONDS)
        if self._ended.is_set():
            self.commands.close()

    def _abort(self) -> None:
        # Whatever the thread waits for on its connection now ends with an error.
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            self._serve_connections()
            self._close()
        finally:
            self._ended.set()

    def _serve_connections(self) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while not self._stopping:
            try:
                self._open()
                backoff = FIRST_BACKOFF_SECONDS
                self._serve()
            except Exception as error:
                # Whatever py-amqp makes of a broken link, this thread outlives it: mail waits.
                self._drop(error)
                self._pause(backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)

    def _open(self) -> None:
        options = self._options
        self._connection = connect(options, self._on_blocked, self._on_unblocked)
        self._socket = self._connection.transport.sock
        self._descriptor = self._socket.fileno()
        self._watch(select.POLLIN)
        self._work.opened(self._connection)
        self._work.tick(blocked=self.blocked)
        self.connected = True
        get_logger().info("connected to the broker", connection=options.name)

    def _watch(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._poll.register(self._descriptor, events)

    def _on_blocked(self, _reason: str) -> None:
        self.blocked = True
        get_logger().warning("the broker asks publishers to wait", connection=self._options.name)

    def _on_unblocked(self) -> None:
        self.blocked = False
        get_logger().info("the broker takes messages again", connection=self._options.name)

    def _serve(self) -> None:
        interval = self._options.heartbeat / 4
        beat_at = time.monotonic() + interval
        while True:
            self._round(min(interval, LONGEST_ROUND_SECONDS))
            if self._stopping and not self.commands:
                return
            if time.monotonic() >= beat_at:
                self._beat()
                beat_at = time.monotonic() + interval

    def _beat(self) -> None:
        transport = self._connection.transport
        transport.hold()
        self._connection.heartbeat_tick(2)
        transport.flush()

    def _round(self, patience: float) -> None:
        transport = self._connection.transport
        # The wait for an answer may have read more than the answer: poll() does not see that.
        if transport.has_frame() or transport.has_more():
            patience = 0.0
        ready = dict(self._poll.poll(patience * 1000))
        transport.hold()
        submitted = ready.pop(self.commands.fileno(), 0)
        # Before the commands: one that waits for an answer reads whatever has come, and a read
        # after it would wait until the broker says something again.
        self._read(transport, any(events & ~select.POLLOUT for events in ready.values()))
        if submitted:
            self._work.perform(self.commands.take())
        transport.flush()
        self._work.tick(blocked=self.blocked)
        self._watch(select.POLLIN | (select.POLLOUT if transport.has_unsent() else 0))

    def _read(self, transport: Any, readable: bool) -> None:
        if readable or transport.has_more():
            with contextlib.suppress(TimeoutError):  # of a TLS record only a part has come
                transport.fill()
        handle = self._connection.on_inbound_frame
        for frame in transport.frames():
            handle(frame)

    def _drop(self, error: Exception) -> None:
        if self.connected:
            metrics.broker_reconnects.inc()
        self._forget()
        get_logger().warning(
            "no connection to the broker", connection=self._options.name, error=repr(error)
        )

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping:
            if self._poll.poll(left * 1000):
                self._work.perform(self.commands.take())
                self._work.tick(blocked=False)

    def _close(self) -> None:
        if self._connection is not None and not self.blocked:
            # A close in the protocol makes sure that the broker has read what came before it. While
            # blocked it reads nothing, and a close would hang.
            with contextlib.suppress(*_LINK_ERRORS):
                for pause in self._work.leave():
                    time.sleep(pause)
                self._connection.close()
        self._forget()

    def _forget(self) -> None:
        """Leave the connection without a word, and answer everything that waits on it."""
        self.connected = self.blocked = False
        connection, self._connection = self._connection, None
        if self._events:
            self._poll.unregister(self._descriptor)
            self._events = 0
        if connection is not None:
            with contextlib.suppress(*_LINK_ERRORS):
                connection.collect()
        self._socket = None
        self._work.lost()
        self._work.perform(self.commands.take())
        self._work.tick(blocked=False)
