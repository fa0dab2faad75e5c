"""One thread that owns one kombu connection, and hands batches to and from the asyncio loop.

Towards the thread: append to a deque, then write one byte into a pipe unless a wake-up is on its
way. Towards the loop: everything that one round brought, in one `call_soon_threadsafe`. What is
done on the connection is the business of `Work`; connecting, heartbeats and loss are here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from amqp.exceptions import AMQPError
from kombu import Connection
from kombu.exceptions import KombuError

from shared.broker.amqp.transport import BufferedTransport
from shared.broker.topology import Topology, amqp_arguments
from shared.logs import get_logger

CONNECT_SECONDS = 5.0
FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 10.0
TCP_USER_TIMEOUT_MS = 30_000
"""py-amqp's own default of 1 s turns a second of packet loss into a lost link."""

_LINK_ERRORS = (AMQPError, KombuError, OSError)
"""What closing a connection that is broken anyway may raise."""
Command_contra = TypeVar("Command_contra", contravariant=True)
Command = TypeVar("Command")


class Work(Protocol[Command_contra]):
    """What one kind of connection does. All methods are called on the thread."""

    def opened(self, connection: Any) -> None:
        """A new connection, declared: open channels, consume."""

    def perform(self, commands: Sequence[Command_contra]) -> None:
        """Carry out what the loop asked for; on no connection, answer that it is gone."""

    def tick(self) -> None:
        """Called after every round: hand results to the loop, check what has waited too long."""

    def lost(self) -> None:
        """The connection is gone: everything that was under way on it has an unknown outcome."""


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Where and how to connect. `heartbeat` is in seconds."""

    url: str
    name: str
    heartbeat: float
    topology: Topology


class Link(Generic[Command]):
    """See the module. `connected` and `blocked` are read on the loop, written on the thread."""

    def __init__(self, options: LinkOptions, work: Work[Command]) -> None:
        self._options = options
        self._work = work
        self._commands: deque[Command] = deque()
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_sent = False
        self._poll = select.poll()
        self._poll.register(self._woken, select.POLLIN)
        self._stopping = False
        self._connection: Any = None
        self._descriptor = -1
        self._ended = threading.Event()
        self.connected = False
        self.blocked = False
        self.generation = 0
        """Counts connections: what belongs to an older one is stale."""
        self.losses = 0

    def start(self) -> None:
        """Connect and serve until `stop`."""
        name = f"amqp-{self._options.name}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, command: Command) -> None:
        """Give the thread something to do. Called on the loop."""
        # Append first, test afterwards: the thread clears the flag before it empties the deque.
        self._commands.append(command)
        self._ring()

    def _ring(self) -> None:
        if not self._wake_sent:
            self._wake_sent = True
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake, b"!")

    async def stop(self, timeout: float) -> None:
        """Do what was submitted, disconnect and end the thread, within `timeout` seconds."""
        self._stopping = True
        self._ring()
        await asyncio.to_thread(self._ended.wait, timeout)

    def _run(self) -> None:
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
        self._close()
        self._ended.set()

    def _open(self) -> None:
        options = self._options
        connection = Connection(
            options.url,
            ssl=options.url.startswith("amqps:"),
            transport=BufferedTransport,
            connect_timeout=CONNECT_SECONDS,
            heartbeat=options.heartbeat,
            transport_options=self._transport_options(),
        )
        self._connection = connection.transport.establish_connection()
        self.generation += 1
        declare(self._connection, options.topology)
        self._work.opened(self._connection)
        self._descriptor = self._connection.transport.sock.fileno()
        self._poll.register(self._descriptor, select.POLLIN)
        self._work.tick()
        self.connected = True
        get_logger().info("connected to the broker", connection=options.name)

    def _transport_options(self) -> dict[str, Any]:
        patience = max(2 * self._options.heartbeat, 1.0)
        return {
            "on_blocked": self._on_blocked,
            "on_unblocked": self._on_unblocked,
            "client_properties": {"connection_name": self._options.name},
            "read_timeout": patience,
            "write_timeout": patience,
            "socket_settings": {socket.TCP_USER_TIMEOUT: TCP_USER_TIMEOUT_MS},
        }

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
            self._round(interval)
            if self._stopping and not self._commands:
                return
            if time.monotonic() >= beat_at:
                self._connection.heartbeat_tick(2)
                beat_at = time.monotonic() + interval

    def _round(self, patience: float) -> None:
        transport = self._connection.transport
        # The wait for an answer may have read more than the answer: poll() does not see that.
        patience = 0.0 if transport.has_frame() or transport.has_more() else min(patience, 1.0)
        ready = {descriptor for descriptor, _ in self._poll.poll(patience * 1000)}
        transport.hold_writes()
        if self._woken in ready:
            self._work.perform(self._take())
        if ready - {self._woken} or transport.has_more():
            transport.fill()
        self._handle_frames(transport)
        transport.flush()
        self._work.tick()

    def _handle_frames(self, transport: Any) -> None:
        handle = self._connection.on_inbound_frame
        while transport.has_frame():
            handle(transport.read_frame())

    def _take(self) -> list[Command]:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 64)
        self._wake_sent = False
        commands = []
        while self._commands:
            commands.append(self._commands.popleft())
        return commands

    def _drop(self, error: Exception) -> None:
        if self._connection is not None:
            self.losses += 1
        self.connected = self.blocked = False
        self.generation += 1
        self._collect()
        self._work.lost()
        self._work.tick()
        get_logger().warning(
            "no connection to the broker", connection=self._options.name, error=repr(error)
        )

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping:
            if self._poll.poll(left * 1000):
                self._work.perform(self._take())
                self._work.tick()

    def _close(self) -> None:
        connection = self._connection
        self.connected = False
        if connection is not None and not self.blocked:
            # A close in the protocol makes sure that the broker has read what came before it. While
            # blocked it reads nothing, and a close would hang.
            with contextlib.suppress(*_LINK_ERRORS):
                connection.close()
        self._collect()
        self._work.lost()
        self._work.perform(self._take())
        self._work.tick()

    def _collect(self) -> None:
        connection, self._connection = self._connection, None
        if self._descriptor >= 0:
            self._poll.unregister(self._descriptor)
            self._descriptor = -1
        if connection is not None:
            with contextlib.suppress(*_LINK_ERRORS):
                connection.collect()


def declare(connection: Any, topology: Topology) -> None:
    """Declare every queue, idempotently. Raises py-amqp's errors, also for other arguments."""
    channel = connection.channel()
    for queue in topology.queues:
        channel.queue_declare(
            queue.name, durable=True, auto_delete=False, arguments=dict(amqp_arguments(queue))
        )
    channel.close()


def tell(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    """Call on the loop, from the thread; a loop that is closed has nobody waiting."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *arguments)
