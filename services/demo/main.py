"""`postroad demo`: real mail through all three services to real local receivers, accounted for.

The order of events is here and nothing else: start receivers and services, submit, wait until the
end of every recipient is known, stop everything, judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path
from random import Random

from rich.console import Console

from services.demo.client import Submission, submit_all
from services.demo.ledger import Ledger
from services.demo.parking import read_parked
from services.demo.plan import Contents, Planned, plan_messages
from services.demo.progress import Display
from services.demo.report import Result, problems, table, verdict
from services.demo.reports import Listening, read_report
from services.demo.stack import Stack, StackError, broker_name, receivers_process
from shared.broker.interface import Unavailable
from shared.logs import configure_logging
from shared.settings.load import ConfigError
from shared.settings.model import LoggingSettings, LogLevel

SEED = 20_260
TICK = 0.1
"""Seconds between looks at the progress."""
PARKED_INTERVAL = 1.0
"""Seconds between looks at the services' metrics."""
TIME_LIMIT, TIME_A_MESSAGE = 60.0, 0.1
"""Seconds that a demo may take, in all and for each message."""
INTERRUPTED = 130


def run_demo(broker: str | None, messages: int, keep: bool) -> int:
    """Run the demo; 0 only if nothing was lost and nothing unexpected happened.

    `broker` is a URL, None for the embedded one; `keep` leaves queues and logs behind even if all
    is well. Raises `ConfigError` for a URL that cannot be used.
    """
    console = Console(highlight=False, soft_wrap=True)
    configure_logging(LoggingSettings(level=LogLevel.ERROR))
    folder = Path(tempfile.mkdtemp(prefix="postroad-demo-"))
    left = True
    try:
        good = asyncio.run(Demo(console, folder, broker, messages).run())
        left = keep or not good
    except ConfigError:
        left = False
        raise
    except StackError as error:
        console.print(f"FAILED: {error}", style="bold red", markup=False)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Interrupted; everything is stopped.")
        return INTERRUPTED
    finally:
        _leave(console, folder, left=left)
    return 0 if good else 1


def _leave(console: Console, folder: Path, *, left: bool) -> None:
    if left:
        console.print(f"Queues, contents, configuration and logs are left in {folder}")
    else:
        shutil.rmtree(folder)


class Demo:
    """One run."""

    def __init__(self, console: Console, folder: Path, broker: str | None, messages: int) -> None:
        self._console = console
        self._folder = folder
        self._broker = broker
        self._plan: Sequence[Planned] = plan_messages(secrets.token_hex(4), messages, Random(SEED))
        self._ledger = Ledger(self._plan)
        self._refusals: list[str] = []
        self._parked = self._parked_then = 0
        self._settled_then = 0

    async def run(self) -> bool:
        """Run; whether everything went well. Raises `StackError`."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        self._announce()
        result = await self._run()
        self._console.print(table(result))
        for problem in problems(result):
            self._console.print(f"  {problem}", style="red", markup=False)
        self._console.print(verdict(result), style=f"bold {'red' if problems(result) else 'green'}")
        return not problems(result)

    def _announce(self) -> None:
        self._console.print(
            f"[bold]postroad demo[/]: {len(self._plan):,} messages to "
            f"{self._ledger.recipients:,} recipients, {broker_name(self._broker)}\n"
            "senders -> ingress -> router -> delivery -> receivers, SMTP on this machine\n"
            f"Logs of the services: {self._folder}/logs\n"
        )

    async def _run(self) -> Result:
        async with receivers_process() as receivers:
            assert receivers.stdout is not None
            ports = await _ports(receivers.stdout)
            hearing = asyncio.create_task(self._hear(receivers.stdout))
            stack = Stack(self._folder, self._broker, ports)
            try:
                await stack.start()
                await self._submit_and_wait(stack)
            finally:
                codes = await stack.stop()
        await hearing
        return Result(
            self._ledger.account(),
            self._ledger.speeds(),
            len(self._plan),
            self._refusals,
            codes,
            self._parked,
        )

    async def _hear(self, reports: asyncio.StreamReader) -> None:
        while line := await reports.readline():
            self._ledger.hear(read_report(line))

    async def _submit_and_wait(self, stack: Stack) -> None:
        contents = Contents(Random(SEED), formatdate())
        submission = Submission(stack.port, contents.build, self._ledger.accept, self._not_accepted)
        submitting = asyncio.create_task(submit_all(submission, self._plan))
        try:
            with Display(self._console, len(self._plan), self._ledger.recipients) as display:
                await self._watch(stack, submitting, display)
        finally:
            submitting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await submitting

    async def _watch(self, stack: Stack, submitting: asyncio.Task[None], display: Display) -> None:
        """Return when all is settled, or the time is over."""
        deadline = time.monotonic() + TIME_LIMIT + TIME_A_MESSAGE * len(self._plan)
        next_look = 0.0
        while time.monotonic() < deadline:
            stack.check()
            display.update(self._ledger.submitted, self._ledger.settled)
            if submitting.done() and self._ledger.all_settled:
                return
            if time.monotonic() >= next_look:
                await self._look_for_parked(stack)
                next_look = time.monotonic() + PARKED_INTERVAL
            await asyncio.sleep(TICK)

    async def _look_for_parked(self, stack: Stack) -> None:
        """Look into the parking queue when it has grown and nothing else moves any more."""
        self._parked = await stack.parked()
        moved, self._settled_then = self._settled_then != self._ledger.settled, self._ledger.settled
        if moved or self._parked == self._parked_then:
            return
        # While the broker is away those recipients stay open; the next look may see them.
        with contextlib.suppress(Unavailable):
            for message in await read_parked(stack.settings):
                self._ledger.park(message)
            self._parked_then = self._parked

    def _not_accepted(self, _planned: Planned, reply: str) -> None:
        self._refusals.append(reply)


async def _ports(reports: asyncio.StreamReader) -> dict[str, int]:
    line = await reports.readline()
    if not line:
        raise StackError("the receivers did not start")
    report = read_report(line)
    assert isinstance(report, Listening)
    return report.ports
