"""Keeps child processes running until told to stop, then stops them in order.

It owns processes and signals and knows nothing of mail: a child is a name, a command and its
environment. What to do about a child that ended is decided by `backoff` and by the exit code 2
(a configuration error at its first start ends everything). Children of a supervisor that is killed
drain and end, too: they would hold the ports of the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shared.logs import get_logger

CONFIG_ERROR = 2
FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 30.0
STEADY_AFTER = 60.0
"""Seconds after which a child counts as having started well: its next backoff is the first."""
CLEAN = (0, -signal.SIGTERM)
"""Exit codes of a clean stop; SIGTERM kills only a child that has not begun to work yet."""


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep; `environment` is all of it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


def backoff(short_lives: int) -> float:
    """Seconds to wait before the next start, after so many lives in a row were short."""
    return min(FIRST_BACKOFF * 2.0 ** min(short_lives, 16), LONGEST_BACKOFF)


_PR_SET_PDEATHSIG = 1
_prctl: Callable[[int, int], int] | None = (
    ctypes.CDLL(None).prctl if sys.platform == "linux" else None
)


def _die_with_parent() -> None:
    """In the child: SIGTERM when the supervisor is gone, or nobody could stop it (prctl(2))."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Supervisor:
    """Runs `children` until `stop`, then gives them `grace` seconds to end."""

    def __init__(
        self,
        children: Sequence[Child],
        grace: float,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[int], float] = backoff,
    ) -> None:
        self._children = children
        self._grace = grace
        self._clock = clock
        self._backoff = wait
        self._stop = asyncio.Event()
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._config_error = False

    def stop(self) -> None:
        """Begin to stop; `run` returns when all children have ended."""
        self._stop.set()

    def hang_up(self) -> None:
        """Pass SIGHUP on: each child reads its files again."""
        for process in self._running.values():
            process.send_signal(signal.SIGHUP)

    async def run(self) -> int:
        """Run; 0 when all children ended well after `stop`, 1 when one did not or had to be killed.

        2 when a child ended with 2 at its first start.
        """
        keepers = [asyncio.create_task(self._keep(child)) for child in self._children]
        await self._stop.wait()
        self._terminate()
        _, late = await asyncio.wait(keepers, timeout=self._grace)
        if late:
            self._kill()
        codes = await asyncio.gather(*keepers)
        if self._config_error:
            return CONFIG_ERROR
        return 0 if all(code in CLEAN for code in codes) else 1

    def _terminate(self) -> None:
        for child in self._children:
            if child.name in self._running:
                get_logger().info("stopping", child=child.name)
                self._running[child.name].terminate()

    def _kill(self) -> None:
        for name, process in self._running.items():
            get_logger().error("child did not stop, killing it", child=name)
            process.kill()

    async def _keep(self, child: Child) -> int:
        """Start `child` again and again; returns its last exit code once everything stops."""
        short_lives = 0
        first = True
        while True:
            began = self._clock()
            code = await self._live(child)
            if self._stop.is_set():
                return code
            if code == CONFIG_ERROR and first:
                self._give_up(child)
                return code
            short_lives = 0 if self._clock() - began > STEADY_AFTER else short_lives
            pause = self._backoff(short_lives)
            get_logger().error("child died", child=child.name, code=code, restart_seconds=pause)
            if await self._stopped_within(pause):
                return 0
            short_lives, first = short_lives + 1, False

    async def _live(self, child: Child) -> int:
        process = await asyncio.create_subprocess_exec(
            *child.command, env=child.environment, preexec_fn=_die_with_parent
        )
        self._running[child.name] = process
        get_logger().info("child started", child=child.name, pid=process.pid)
        if self._stop.is_set():
            process.terminate()
        code = await process.wait()
        del self._running[child.name]
        return code

    def _give_up(self, child: Child) -> None:
        get_logger().error("child cannot start, stopping all", child=child.name)
        self._config_error = True
        self._stop.set()

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        return self._stop.is_set()
