"""Runs pods of a rendered manifest as processes, as the kubelet would run their containers.

Each pod has a loopback address of its own, so ports are as rendered. Startup, readiness and
liveness are asked over HTTP with the periods and thresholds of the manifest. Who terminates a pod
takes it out of its Service first, then comes the preStop sleep, then SIGTERM, and SIGKILL when the
grace is over.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.support.manifest import PodSpec, Probe

_NETWORK = f"127.{random.randrange(16, 250)}.{random.randrange(250)}"
_addresses = (f"{_NETWORK}.{host}" for host in itertools.count(1))
BIN = Path(sys.executable).parent


class Pod:
    """One pod, from `start` to `terminate`."""

    def __init__(self, spec: PodSpec, folder: Path) -> None:
        self.address = next(_addresses)
        self.folder = folder / f"{spec.name}-{self.address.rpartition('.')[2]}"
        self.spec = spec.rewritten(str(self.folder), self.address)
        self.started = False
        """Its startup probe has succeeded."""
        self.ready = False
        self.terminating = False
        self.killed_by_probe: list[str] = []
        """Which probes failed so often that the container would be restarted."""
        self.asked = Counter[str]()
        """How often it was asked, by probe."""
        self.exit_code: int | None = None
        self._changed = asyncio.Event()
        self._process: asyncio.subprocess.Process
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def serves(self) -> bool:
        """Whether its Service may send somebody here."""
        return self.ready and not self.terminating

    async def start(self) -> None:
        """Write its files, run its container and begin to ask."""
        for path in self.spec.folders:
            Path(path).mkdir(parents=True, exist_ok=True)
        for name, text in self.spec.files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text, "utf-8")
        program, *arguments = self.spec.command
        path = f"{BIN}:{os.environ['PATH']}"
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                BIN / program if (BIN / program).exists() else program,
                *arguments,
                env={"PATH": path, **self.spec.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._tasks = [asyncio.create_task(self._ask()), asyncio.create_task(self._watch())]

    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "log").read_text(errors="replace")

    async def wait_ready(self, timeout: float = 40.0) -> None:
        """Return once it is ready; AssertionError if it ends or is killed before."""
        await self._wait(lambda: self.ready, "ready", timeout)

    async def wait_not_ready(self, timeout: float = 40.0) -> None:
        """Return once it is not ready."""
        await self._wait(lambda: not self.ready, "not ready", timeout)

    async def wait_live(self, timeout: float = 40.0) -> None:
        """Return once it answers its startup probe."""
        await self._wait(lambda: self.started, "started", timeout)

    async def asked_again(self, probe: str, times: int) -> None:
        """Return once that probe has asked so many times more, whatever the answers."""
        enough = self.asked[probe] + times
        await self._wait(lambda: self.asked[probe] >= enough, f"asked by {probe}", 40.0)

    async def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    assert self.exit_code is None, f"{self.spec.name} ended: {self.log()[-2000:]}"
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(
                f"{self.spec.name} is not {what} within {timeout} s: {self.log()[-2000:]}"
            ) from None

    async def terminate(self) -> int:
        """Take it away in order; returns its exit code."""
        self.terminating = True
        asked = asyncio.get_running_loop().time()
        await asyncio.sleep(self.spec.pre_stop)
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout_at(asked + self.spec.grace):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
        code = await self._process.wait()
        await self._leave()
        return code

    async def abort(self) -> None:
        """Kill it if it still runs."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._leave()

    async def _leave(self) -> None:
        self.ready = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        self.exit_code = await self._process.wait()
        self._set_ready(ready=False)

    async def _ask(self) -> None:
        """Readiness and liveness are asked from when the startup probe succeeds."""
        await self._until_it_fails("startup", self.spec.startup)
        if not self.started:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._until_it_fails("liveness", self.spec.liveness))
            tasks.create_task(self._readiness())

    async def _until_it_fails(self, name: str, probe: Probe) -> None:
        """Kill the container when it has failed too often; startup need only succeed once."""
        failed = 0
        while failed < probe.failures:
            failed = 0 if await self._succeeds(name, probe) else failed + 1
            if name == "startup" and not failed:
                self.started = True
                self._changed.set()
                return
            await asyncio.sleep(probe.period)
        if not self.terminating:
            self.killed_by_probe.append(name)
            self._process.kill()

    async def _readiness(self) -> None:
        probe, failed = self.spec.readiness, 0
        while True:
            failed = 0 if await self._succeeds("readiness", probe) else failed + 1
            if not failed or failed >= probe.failures:
                self._set_ready(ready=not failed)
            await asyncio.sleep(probe.period)

    def _set_ready(self, *, ready: bool) -> None:
        self.ready = ready
        self._changed.set()

    async def _succeeds(self, name: str, probe: Probe) -> bool:
        good = False
        with suppress(OSError, TimeoutError, ValueError, IndexError):
            async with asyncio.timeout(probe.timeout):
                good = 200 <= (await self.get(probe.path, probe.port))[0] < 400
        self.asked[name] += 1
        self._changed.set()
        return good

    async def get(self, path: str, port: int) -> tuple[int, str]:
        """Status and body of one request."""
        reader, writer = await asyncio.open_connection(self.address, port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        return int(head.split()[1]), body.decode()
