"""How far the demo is: two bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINE_INTERVAL = 2.0
"""Seconds between plain lines."""


class Display:
    """Shows messages submitted and recipients settled, out of those planned."""

    def __init__(
        self,
        console: Console,
        messages: int,
        recipients: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._totals = (messages, recipients)
        self._clock = clock
        self._next_line = 0.0
        self._counts = self._shown = (-1, -1)
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(40, complete_style="cyan", finished_style="green"),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._submitted = self._bars.add_task("messages accepted ", total=messages)
        self._settled = self._bars.add_task("recipients settled", total=recipients)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()
        if self._counts != self._shown:
            self._print_line()

    def update(self, submitted: int, settled: int) -> None:
        """Show these counts; call it often."""
        self._bars.update(self._submitted, completed=submitted)
        self._bars.update(self._settled, completed=settled)
        self._counts = (submitted, settled)
        if self._clock() >= self._next_line:
            self._next_line = self._clock() + LINE_INTERVAL
            self._print_line()

    def _print_line(self) -> None:
        if self._console.is_terminal:
            return
        self._shown = submitted, settled = self._counts
        messages, recipients = self._totals
        self._console.print(
            f"  {submitted:,} of {messages:,} messages accepted, "
            f"{settled:,} of {recipients:,} recipients settled"
        )
