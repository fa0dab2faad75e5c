from __future__ import annotations

import io

from rich.console import Console

from services.demo.progress import LINE_INTERVAL, Display


def test_without_a_terminal_there_are_plain_lines_now_and_then_and_at_the_end() -> None:
    text = io.StringIO()
    now = 100.0
    with Display(Console(file=text), 2000, 6000, clock=lambda: now) as display:
        display.update(0, 0)
        display.update(10, 5)
        now += LINE_INTERVAL
        display.update(1500, 20)
        display.update(2000, 6000)
    assert text.getvalue().splitlines() == [
        "  0 of 2,000 messages accepted, 0 of 6,000 recipients settled",
        "  1,500 of 2,000 messages accepted, 20 of 6,000 recipients settled",
        "  2,000 of 2,000 messages accepted, 6,000 of 6,000 recipients settled",
    ]


def test_a_terminal_gets_bars() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with Display(console, 2000, 6000) as display:
        display.update(2000, 6000)
    assert "recipients settled" in text.getvalue()
    assert "6000/6000" in text.getvalue()
