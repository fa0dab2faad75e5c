"""The socket side of py-amqp, with buffers: large reads, and one write for a batch of frames.

The stock transport calls recv() for each field of each frame and sends each frame by itself
(nine system calls a delivery). It owns bytes only; frames and methods stay py-amqp's.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from amqp.transport import SSLTransport, TCPTransport
from kombu.transport import pyamqp

READ_BYTES = 262_144
WRITE_BYTES = 262_144
"""Octets that may wait for the end of a batch before they are written anyway."""

_SIZE = struct.Struct(">I")
_FRAME_OVERHEAD = 8


class _Buffered:
    """Mixed into a transport of py-amqp: buffered reads, and writes that wait for `flush`."""

    sock: Any

    def _setup_transport(self) -> None:
        super()._setup_transport()  # type: ignore[misc]
        self._incoming = bytearray()
        self._offset = 0
        self._outgoing: bytearray | None = None
        self._write = self._write_or_keep

    def _read(self, n: int, initial: bool = False, *_: Any) -> bytes:
        while len(self._incoming) - self._offset < n:
            self.fill()
        start, self._offset = self._offset, self._offset + n
        return bytes(memoryview(self._incoming)[start : self._offset])

    def fill(self) -> None:
        """Read once from the socket. Raises OSError, TimeoutError when nothing came in time."""
        try:
            data = self.sock.recv(READ_BYTES)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR):
                raise TimeoutError from error
            raise
        if not data:
            raise ConnectionResetError("the broker closed the connection")
        del self._incoming[: self._offset]
        self._offset = 0
        self._incoming += data

    def has_frame(self) -> bool:
        """Whether a whole frame is buffered, so that reading one cannot block."""
        here = len(self._incoming) - self._offset
        if here < _FRAME_OVERHEAD:
            return False
        size: int = _SIZE.unpack_from(self._incoming, self._offset + 3)[0]
        return here >= size + _FRAME_OVERHEAD

    def has_more(self) -> bool:
        """Whether the TLS layer holds decrypted bytes that select() cannot see."""
        pending = getattr(self.sock, "pending", None)
        return pending is not None and pending() > 0

    def hold_writes(self) -> None:
        """Keep what is written until `flush`."""
        if self._outgoing is None:
            self._outgoing = bytearray()

    def flush(self) -> None:
        """Write what was kept, in one call, and write through from now on."""
        kept, self._outgoing = self._outgoing, None
        if kept:
            self.sock.sendall(kept)

    def _write_or_keep(self, data: bytes | memoryview) -> None:
        if self._outgoing is None:
            self.sock.sendall(data)
            return
        self._outgoing += data
        if len(self._outgoing) >= WRITE_BYTES:
            kept, self._outgoing = self._outgoing, bytearray()
            self.sock.sendall(kept)


class BufferedTCPTransport(_Buffered, TCPTransport):  # type: ignore[misc]
    """Plain TCP."""


class BufferedSSLTransport(_Buffered, SSLTransport):  # type: ignore[misc]
    """TLS."""


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
