"""The socket side of py-amqp, with buffers: large reads, and one write for a batch of frames.

The stock transport calls recv() for each field of each frame and sends each frame by itself
(nine system calls a delivery). It owns octets only; frames and methods stay py-amqp's.

A batch is written as far as the kernel takes it: a broker that reads nothing during an alarm must
not keep its thread from reading why. Only TLS, and a wait for an answer, write with patience.
"""

from __future__ import annotations

import errno
import math
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from amqp.exceptions import UnexpectedFrame
from amqp.transport import SSLTransport, TCPTransport
from kombu.transport import pyamqp

from shared.broker.amqp.frames import FRAME_OVERHEAD

READ_BYTES = 262_144
WRITE_BYTES = 262_144
"""Octets of one write at most."""
COPY_BYTES = 32_768
"""Pieces from this size on are written by themselves: cheaper than to copy them together."""

_FRAME = struct.Struct(">BHI")
_END = 0xCE
_HEARTBEAT = 8


class _Buffered:
    """Mixed into a transport of py-amqp: buffered reads, and writes that wait for `flush`."""

    sock: Any
    answer_seconds = 30.0
    """While heartbeats may come instead of an answer: a queue without a leader never answers."""

    def _setup_transport(self) -> None:
        super()._setup_transport()  # type: ignore[misc]
        self._incoming = b""
        self._offset = 0
        self._kept: deque[bytes | memoryview] = deque()
        self._holding = False
        self._answer_by = math.inf
        self._write = self._write_or_keep

    def read_frame(self, *arguments: Any) -> tuple[int, int, bytes]:
        """Wait for a frame. Raises TimeoutError when the broker lives and does not answer."""
        frame: tuple[int, int, bytes] = super().read_frame(*arguments)  # type: ignore[misc]
        if frame[0] != _HEARTBEAT:
            self._answer_by = time.monotonic() + self.answer_seconds
        elif time.monotonic() > self._answer_by:
            raise TimeoutError("the broker lives, but does not answer")
        return frame

    def _read(self, n: int, initial: bool = False, *_: Any) -> bytes:
        # py-amqp waits for an answer: the question must be on its way.
        self.flush(wait=True)
        while len(self._incoming) - self._offset < n:
            self.fill()
        start, self._offset = self._offset, self._offset + n
        return self._incoming[start : self._offset]

    def fill(self) -> None:
        """Read once from the socket. Raises OSError, TimeoutError when nothing came in time."""
        try:
            octets = self.sock.recv(READ_BYTES)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR):
                raise TimeoutError from error
            raise
        if not octets:
            raise ConnectionResetError("the broker closed the connection")
        self._incoming = self._incoming[self._offset :] + octets
        self._offset = 0

    def frames(self) -> Iterator[tuple[int, int, bytes]]:
        """The whole frames that are buffered: type, channel and payload. Never blocks.

        The caller may make py-amqp wait for an answer between two frames, which reads some too.
        """
        while self.has_frame():
            kind, channel, size = _FRAME.unpack_from(self._incoming, self._offset)
            start = self._offset + _FRAME.size
            end = start + size
            if self._incoming[end] != _END:
                raise UnexpectedFrame("a frame does not end where it should")
            self._offset = end + 1
            yield kind, channel, self._incoming[start:end]

    def has_frame(self) -> bool:
        """Whether a whole frame is buffered, so that reading one cannot block."""
        here = len(self._incoming) - self._offset
        if here < FRAME_OVERHEAD:
            return False
        size: int = _FRAME.unpack_from(self._incoming, self._offset)[2]
        return here >= size + FRAME_OVERHEAD

    def has_more(self) -> bool:
        """Whether the TLS layer holds decrypted octets that poll() cannot see."""
        pending = getattr(self.sock, "pending", None)
        return pending is not None and pending() > 0

    def hold(self) -> None:
        """Keep what is written until `flush`."""
        self._holding = True

    def keep(self, pieces: list[bytes]) -> None:
        """Write the pieces with the next `flush`, in order and uncopied."""
        self._kept.extend(pieces)

    def has_unsent(self) -> bool:
        """Whether the kernel has not taken everything yet."""
        return bool(self._kept)

    def flush(self, *, wait: bool = False) -> None:
        """Write what was kept, and write through from now on. Raises OSError.

        Without `wait` the rest stays kept when the kernel takes no more for now.
        """
        self._holding = False
        while self._kept:
            octets = self._next_write()
            sent = self._send(octets, wait=wait)
            if sent < len(octets):
                self._kept.appendleft(memoryview(octets)[sent:])
                return

    def _next_write(self) -> bytes | memoryview:
        first = self._kept.popleft()
        size, pieces = len(first), [first]
        if size < COPY_BYTES:
            while self._kept and size < WRITE_BYTES and len(self._kept[0]) < COPY_BYTES:
                pieces.append(self._kept.popleft())
                size += len(pieces[-1])
        return first if len(pieces) == 1 else b"".join(pieces)

    def _send(self, octets: bytes | memoryview, *, wait: bool) -> int:
        self.sock.sendall(octets)
        return len(octets)

    def _write_or_keep(self, octets: bytes | memoryview) -> None:
        self._answer_by = time.monotonic() + self.answer_seconds
        # A copy: py-amqp uses its buffer again for the next frame.
        self._kept.append(bytes(octets))
        if not self._holding:
            self.flush(wait=True)


class BufferedTCPTransport(_Buffered, TCPTransport):  # type: ignore[misc]
    """Plain TCP."""

    def _send(self, octets: bytes | memoryview, *, wait: bool) -> int:
        if wait:
            return super()._send(octets, wait=True)
        try:
            return int(self.sock.send(octets, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return 0


class BufferedSSLTransport(_Buffered, SSLTransport):  # type: ignore[misc]
    """TLS."""

    read_timeout: float

    def _setup_transport(self) -> None:
        super()._setup_transport()
        # py-amqp leaves the time for connecting in force.
        self.sock.settimeout(self.read_timeout)

    def _shutdown_transport(self) -> None:
        """Not even a farewell of TLS: it waits for a peer that may be gone. AMQP said it."""


class _BufferedConnection(pyamqp.Connection):
    def Transport(  # noqa: N802 - py-amqp's name
        self, host: str, connect_timeout: float, ssl: Any = False, *timeouts: Any, **options: Any
    ) -> _Buffered:
        read_timeout, write_timeout = timeouts
        options |= {"read_timeout": read_timeout, "write_timeout": write_timeout}
        if ssl:
            return BufferedSSLTransport(host, connect_timeout, ssl=ssl, **options)
        return BufferedTCPTransport(host, connect_timeout, **options)


class BufferedTransport(pyamqp.Transport):
    """The kombu transport that makes buffered connections."""

    Connection = _BufferedConnection
