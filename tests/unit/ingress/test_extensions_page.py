"""`docs/extensions.md` says what EHLO says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.ingress import policy
from services.ingress.dialogue import Dialogue
from services.ingress.policy import User, listener_rules
from services.ingress.senders import Quotas
from shared.settings.model import Settings
from shared.smtp.parameters import (
    ALL_PARAMETERS,
    brought_by,
    parse_mail_parameters,
    parse_recipient_parameters,
)

PAGE = (Path(__file__).parents[3] / "docs" / "extensions.md").read_text(encoding="utf-8")
SETTINGS = Settings.model_validate(
    {
        "ingress": {
            "listeners": [
                {"port": 0, "tls": "none", "auth": "none", "relay_networks": ["127.0.0.0/8"]},
                {"port": 0, "tls": "starttls", "auth": "required"},
            ],
            "tls": {"certificate": "c", "key": "k"},
            "credentials_file": Path("users"),
        }
    }
)
STATES = ("relay", "clear", "TLS", "certified", "user")


def table(first: str) -> list[list[str]]:
    """The rows of the table whose first column is called so, without backquotes."""
    lines = iter(PAGE.splitlines())
    next(line for line in lines if line.startswith(f"| {first} |"))
    next(lines)
    return list(_rows(lines))


def _rows(lines: Iterator[str]) -> Iterator[list[str]]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def session(state: str) -> Dialogue:
    """A session in that state, before its EHLO."""
    relay, submission = (listener_rules(SETTINGS, each) for each in SETTINGS.ingress.listeners)
    dialogue = Dialogue(
        relay if state == "relay" else submission,
        "127.0.0.1",
        secured=state not in {"relay", "clear"},
        blocked=lambda: False,
        quotas=Quotas(lambda: 0.0),
    )
    if state == "certified":
        dialogue.certificate_names = ("client.example",)
    if state == "user":
        dialogue.authenticated(User("al", "default"))
    return dialogue


@pytest.mark.parametrize("state", STATES)
def test_ehlo_answers_as_the_page_says(state: str) -> None:
    column = 1 + STATES.index(state)
    said = session(state).command(b"EHLO client.example")
    assert said is not None
    assert said.text.split("\n")[1:] == [
        row[0] for row in table("EHLO line") if row[column] == "yes"
    ]


def test_helo_announces_nothing() -> None:
    dialogue = session("relay")
    said = dialogue.command(b"HELO client.example")
    assert said is policy.helo(dialogue.rules)
    assert "\n" not in said.text
    assert not dialogue.announced


def test_every_parameter_is_on_the_page_with_its_extension() -> None:
    rows = table("Parameter")
    assert {row[0] for row in rows} == ALL_PARAMETERS
    for parameter, _, extension in rows:
        assert parameter in brought_by([extension])


@pytest.mark.parametrize("row", table("Parameter"), ids=lambda row: row[0])
def test_a_parameter_is_of_the_command_that_the_page_says(row: list[str]) -> None:
    value = {
        "SIZE": "=1",
        "BODY": "=7BIT",
        "SMTPUTF8": "",
        "REQUIRETLS": "",
        "RET": "=FULL",
        "NOTIFY": "=NEVER",
    }
    value |= {"ORCPT": "=rfc822;a", "MT-PRIORITY": "=1", "BY": "=60;R"}
    text = f" {row[0]}{value.get(row[0], '=a')}"
    read = {"MAIL": parse_mail_parameters, "RCPT": parse_recipient_parameters}[row[1]]
    assert read(text, ALL_PARAMETERS) is not None


@pytest.mark.parametrize("row", table("Command"), ids=lambda row: row[0])
def test_commands_answer_as_the_page_says(row: list[str]) -> None:
    dialogue = session("relay")
    dialogue.command(b"EHLO client.example")
    reply = dialogue.command(row[0].encode())
    assert reply is not None
    assert f"{reply.code} {reply.enhanced}" == row[1]


def not_offered() -> list[list[str]]:
    at = PAGE.index("## What is not offered")
    lines = iter(PAGE[at:].splitlines())
    next(line for line in lines if line.startswith("|---"))
    return list(_rows(lines))


@pytest.mark.parametrize("row", not_offered(), ids=lambda row: row[0])
@pytest.mark.parametrize("state", STATES)
def test_what_is_not_offered_is_neither_announced_nor_taken(state: str, row: list[str]) -> None:
    dialogue = session(state)
    dialogue.authenticated(User("al", "default"))
    said = dialogue.command(b"EHLO client.example")
    assert said is not None
    announced = {line.partition(" ")[0] for line in said.text.split("\n")[1:]}
    assert not announced & set(re.findall(r"[A-Z0-9]{4,}", row[0]))
    if row[1]:
        reply = dialogue.command(b"MAIL FROM:<a@b.test> " + row[1].encode())
        assert reply is not None
        assert (reply.code, reply.enhanced) == (555, "5.5.4")
