"""Announcements between the processes of one host: a datagram socket for each that listens.

A datagram is whole or not there at all, nobody waits for a listener that is slow, and the kernel
tells a socket whose process has died from one that is only busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from shared.logs import get_logger

LONGEST_BYTES = 200_000
"""Of one announcement; the kernel's usual buffer takes a little more."""


class SocketListener:
    """See `shared.broker.interface.Listener`."""

    def __init__(
        self, handler: Callable[[bytes], None], end: Callable[[SocketListener], None]
    ) -> None:
        self._end = end
        self.handler = handler

    async def stop(self) -> None:
        """No further call of the handler will come."""
        self._end(self)


class Members:
    """The sockets in one directory. Used on the loop; nothing here blocks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._folder = -1
        self._sender: socket.socket | None = None
        self._receiver: socket.socket | None = None
        self._name = f"{secrets.token_hex(8)}.sock"
        self._listeners: dict[SocketListener, None] = {}

    @property
    def hearing(self) -> bool:
        """Whether somebody listens here."""
        return self._receiver is not None

    @property
    def heard(self) -> bool:
        """Whether somebody listens anywhere, as far as names of sockets tell."""
        try:
            with os.scandir(self._directory) as entries:
                return next(entries, None) is not None
        except FileNotFoundError:
            return False

    def announce(self, body: bytes) -> int:
        """Send to every socket there is; returns how many missed it.

        Raises ValueError above `LONGEST_BYTES`.
        """
        if len(body) > LONGEST_BYTES:
            raise ValueError(f"an announcement of {len(body)} octets is too long")
        if self._sender is None:
            self._open()
            self._sender = _datagram_socket()
        sender = self._sender
        return sum([self._send(sender, body, path.name) for path in self._directory.iterdir()])

    def _send(self, sender: socket.socket, body: bytes, name: str) -> bool:
        """Whether a listener that lives misses it."""
        try:
            sender.sendto(body, self._path(name))
        except ConnectionRefusedError:
            # Its process is dead: a socket that lives accepts from the moment it has a name.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._folder)
        except FileNotFoundError:
            pass  # gone by now
        except OSError:
            return True
        return False

    def listen(self, handler: Callable[[bytes], None]) -> SocketListener:
        """Call `handler` for each announcement from now on. Raises OSError."""
        listener = SocketListener(handler, self._end)
        if self._receiver is None:
            self._open()
            self._receiver = _datagram_socket()
            self._receiver.bind(self._path(self._name))
            asyncio.get_running_loop().add_reader(self._receiver.fileno(), self._receive)
        self._listeners[listener] = None
        return listener

    def _open(self) -> None:
        if self._folder < 0:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _path(self, name: str) -> str:
        # The address of a socket has 108 octets at most, a directory may have more.
        return f"/proc/self/fd/{self._folder}/{name}"

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._receiver is not None:
                self._hand_out(self._receiver.recv(LONGEST_BYTES))

    def _hand_out(self, body: bytes) -> None:
        for listener in tuple(self._listeners):
            if listener in self._listeners:
                try:
                    listener.handler(body)
                except Exception:
                    get_logger().exception("a listener failed")

    def _end(self, listener: SocketListener) -> None:
        self._listeners.pop(listener, None)
        if not self._listeners and self._receiver is not None:
            receiver, self._receiver = self._receiver, None
            asyncio.get_running_loop().remove_reader(receiver.fileno())
            receiver.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._folder)

    def close(self) -> None:
        """No listener is called again, and no socket stays."""
        for listener in tuple(self._listeners):
            self._end(listener)
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


def _datagram_socket() -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    opened.setblocking(False)
    return opened
