"""How batches cross between the asyncio loop and a thread, both ways.

Towards the thread: append to a deque and, once in a turn of the loop, write one byte into a pipe,
unless a wake-up is on its way already. Towards the loop: one `call_soon_threadsafe` a batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Command = TypeVar("Command")


class Handover(Generic[Command]):
    """Commands from the loop to one thread. Made and used on the loop, but for `take`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._commands: deque[Command] = deque()
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_sent = False
        self._ring_at_end = False
        self._closed = False

    def fileno(self) -> int:
        """What the thread polls: readable once there is something to take."""
        return self._woken

    def submit(self, command: Command) -> None:
        """Hand over at the end of this turn of the loop."""
        self._commands.append(command)
        if not self._ring_at_end:
            self._ring_at_end = True
            self._loop.call_soon(self.ring)

    def ring(self) -> None:
        """Wake the thread now."""
        self._ring_at_end = False
        # No wake-up is lost: the thread clears the flag before it empties the deque, and what is
        # in the deque was appended before this test.
        if not self._wake_sent and not self._closed:
            self._wake_sent = True
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake, b"!")

    def take(self) -> list[Command]:
        """Everything that was handed over so far. Called on the thread."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 64)
        self._wake_sent = False
        commands = []
        while self._commands:
            commands.append(self._commands.popleft())
        return commands

    def __len__(self) -> int:
        return len(self._commands)

    def close(self) -> None:
        """Once the thread has ended: nothing is handed over any more."""
        if not self._closed:
            self._closed = True
            os.close(self._wake)
            os.close(self._woken)


def tell(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    """Call on the loop, from the thread; a loop that is closed has nobody waiting."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *arguments)
