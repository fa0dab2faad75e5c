"""The demo's table and its verdict, from an account: values in, lines out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from services.demo.accounting import Account, Quantiles, Speeds

SHOWN = 10
"""Recipients named in a list of problems."""


@dataclass(frozen=True, slots=True)
class Result:
    """Everything the verdict depends on.

    `planned` counts messages; `refusals` are the last replies to those not accepted;
    `exit_codes` are those of the services after SIGTERM; `parked_messages` comes from metrics.
    """

    account: Account
    speeds: Speeds
    planned: int
    refusals: Sequence[str]
    exit_codes: Mapping[str, int]
    parked_messages: int = 0


def problems(result: Result) -> list[str]:
    """Why the demo failed, a line each; none if it did not."""
    account = result.account
    found = [f"lost: {path} of message {name}" for name, path in _some(account.lost)]
    found += _rest("lost", len(account.lost))
    found += [f"{u.what}: {u.pair[1]} of message {u.pair[0]}" for u in account.unexpected[:SHOWN]]
    found += _rest("unexpected", len(account.unexpected))
    if account.messages < result.planned:
        last = f"; last reply: {result.refusals[-1]}" if result.refusals else ""
        found.append(f"{result.planned - account.messages:,} messages were not accepted{last}")
    found += [
        f"{name} ended with {code} after SIGTERM"
        for name, code in result.exit_codes.items()
        if code != 0
    ]
    return found


def _some(pairs: frozenset[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(pairs)[:SHOWN]


def _rest(what: str, count: int) -> list[str]:
    return [f"... and {count - SHOWN:,} more {what}"] if count > SHOWN else []


def verdict(result: Result) -> str:
    """The last line."""
    account = result.account
    if problems(result):
        return f"FAILED: {len(account.lost):,} lost, {len(account.unexpected):,} unexpected."
    remarks = [
        f", {count:,} {what}"
        for count, what in ((account.parked, "parked"), (account.duplicates, "duplicates"))
        if count
    ]
    return (
        f"All {account.recipients:,} recipients are accounted for: "
        f"nothing lost, nothing unexpected{''.join(remarks)}."
    )


def table(result: Result) -> Table:
    """The table."""
    grid = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    grid.add_column(min_width=32)
    grid.add_column(justify="right", min_width=10)
    grid.add_column(style="dim")
    for title, value, remark in _counts(result):
        grid.add_row(title, value, remark)
    grid.add_section()
    for title, value, remark in _speeds(result.speeds):
        grid.add_row(title, value, remark)
    return grid


def _counts(result: Result) -> list[tuple[str, str, str]]:
    account = result.account
    return [
        ("accepted", f"{account.recipients:,}", f"recipients of {account.messages:,} messages"),
        ("delivered", f"{account.delivered:,}", "contents unchanged"),
        ("deferred first", f"{account.deferred_first:,}", "of those delivered"),
        ("bounced with DSN", f"{account.bounced:,}", "refused mailboxes"),
        ("parked", f"{account.parked:,}", _parked_remark(result)),
        ("lost", f"{len(account.lost):,}", ""),
        ("unexpected", f"{len(account.unexpected):,}", ""),
        ("duplicates", f"{account.duplicates:,}", ""),
    ]


def _parked_remark(result: Result) -> str:
    count = result.parked_messages
    return f"{count:,} messages in all" if count else ""


def _speeds(speeds: Speeds) -> list[tuple[str, str, str]]:
    return [
        ("messages a second, accepted", _rate(speeds.accept_rate), "first MAIL to last 250"),
        ("messages a second, end to end", _rate(speeds.whole_rate), "to the last retry"),
        ("accept, p50 / p99", _pair(speeds.accept), "MAIL to 250"),
        ("accept to delivered, p50 / p99", _pair(speeds.delivered_at_once), "at the first attempt"),
        ("accept to delivered, p50 / p99", _pair(speeds.delivered_late), "deferred first"),
    ]


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}"


def _pair(found: Quantiles | None) -> str:
    return "-" if found is None else f"{_time(found.p50)} / {_time(found.p99)}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
