from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from services.demo.accounting import Account, Quantiles, Speeds, Unexpected
from services.demo.report import Result, problems, table, verdict

GOOD = Result(
    Account(2, 3, 2, 1, 1, 0, 0, frozenset(), ()),
    Speeds(100.4, 50.0, Quantiles(0.004, 0.02), Quantiles(0.05, 1.25), None),
    planned=2,
    refusals=(),
    exit_codes={"ingress": 0, "router": 0, "delivery": 0},
)


def printed(result: Result) -> str:
    text = io.StringIO()
    Console(file=text, width=120).print(table(result))
    return text.getvalue()


def test_nothing_lost_and_nothing_unexpected_is_good() -> None:
    assert problems(GOOD) == []
    assert verdict(GOOD).startswith("All 3 recipients are accounted for")


def test_parked_and_repeated_mail_is_no_failure_but_told() -> None:
    account = replace(GOOD.account, parked=1, duplicates=2)
    assert verdict(replace(GOOD, account=account)).endswith(", 1 parked, 2 duplicates.")


def test_the_table_has_every_promised_row() -> None:
    text = printed(GOOD)
    for row in ("accepted", "delivered", "deferred first", "bounced with DSN", "parked", "lost"):
        assert row in text
    assert "4 ms / 20 ms" in text
    assert "50 ms / 1.2 s" in text
    assert "messages a second" in text


LOST = replace(GOOD.account, lost=frozenset({("m1", f"u{n}@x") for n in range(12)}))
WRONG = replace(GOOD.account, unexpected=(Unexpected("content damaged", ("m1", "a@x")),))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (replace(GOOD, account=LOST), "lost: u0@x of message m1"),
        (replace(GOOD, account=LOST), "... and 2 more lost"),
        (replace(GOOD, account=WRONG), "content damaged: a@x of message m1"),
        (replace(GOOD, planned=5, refusals=("451 no",)), "3 messages were not accepted; last"),
        (replace(GOOD, exit_codes={"router": 1}), "router ended with 1 after SIGTERM"),
    ],
)
def test_each_trouble_is_named_and_makes_it_fail(result: Result, words: str) -> None:
    assert any(words in line for line in problems(result))
    assert verdict(result).startswith("FAILED")


def test_parked_messages_are_told_even_when_they_are_of_another_run() -> None:
    assert "7 messages in all" in printed(replace(GOOD, parked_messages=7))
