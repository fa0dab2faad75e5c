"""What the commands for events say when they cannot do what was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.events.store import EventStore
from tests.unit.cli.test_cli import Command, _alone, command
from tests.unit.events.test_store import lines, of

__all__ = ["_alone", "command"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "postroad.yaml"
    path.write_text(f"events: {{store: {{path: {tmp_path}/events.sqlite3}}}}\n")
    return path


@pytest.mark.parametrize("arguments", [("events",), ("message", "X"), ("event-store",)])
def test_without_a_store_the_setting_is_named(command: Command, arguments: tuple[str, ...]) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("postroad: events.store.path: is not set")
    assert err.count("\n") == 1


def test_a_kind_of_event_that_there_is_not_is_named(command: Command) -> None:
    code, _, err = command("events", "--follow", "--event", "lost")
    assert code == 2
    assert err.startswith("postroad: --event: lost is none of accepted, routed, ")


@pytest.mark.parametrize("arguments", [("events",), ("message", "X")])
def test_a_store_that_is_not_there_yet_is_named(
    command: Command, config: Path, arguments: tuple[str, ...]
) -> None:
    code, out, err = command(*arguments, "--config", config)
    assert (code, out) == (1, "")
    assert str(config.parent / "events.sqlite3") in err


def test_an_unknown_id_is_shown_without_what_a_terminal_would_obey(
    command: Command, config: Path
) -> None:
    store = EventStore(config.parent / "events.sqlite3", 1000, 1e12, lambda: 0.0)
    store.add(lines(of("A", "accepted", 1.0)))
    store.close()
    code, out, err = command("message", "\x1b[31mX", "--config", config)
    assert (code, out) == (1, "")
    assert "no event of it" in err
    assert "\x1b" not in err


def test_what_is_kept_is_shown_by_kind_and_tenant(command: Command, config: Path) -> None:
    store = EventStore(config.parent / "events.sqlite3", 1000, 1e12, lambda: 0.0)
    store.add(lines(of("A", "accepted", 1.0), of("A", "bounced", 2.0), of("B", "accepted", 3.0)))
    store.close()
    kept = ("events", "--config", config)
    assert command(*kept)[1].count("\n") == 3
    assert command(*kept, "--event", "bounced")[1].count("\n") == 1
    assert command(*kept, "--event", "bounced", "--event", "accepted")[1].count("\n") == 3
    assert command(*kept, "--id", "B")[1].count("\n") == 1
    assert command(*kept, "--tenant", "shop")[1].count("\n") == 3
    assert command(*kept, "--tenant", "bank")[1] == ""
    assert command(*kept, "--last", "1")[1].count("\n") == 1
