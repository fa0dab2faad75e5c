"""Logs: one line an event, nothing that a terminal obeys, and no loss of mail for their sake."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import select
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.log_text import escape, to_json
from shared.logs import (
    LONGEST_TEXT,
    _console_chain,
    _Sink,
    configure_logging,
    get_logger,
    log_detail,
    log_event,
    log_parked,
)
from shared.messages.model import Event
from shared.settings.model import LoggingSettings, LogLevel
from tests.support.log_state import log_state_kept

ROOT = Path(__file__).parents[2]
EVIL = "a\x1b[2Jb\x9b31m\nc\rd\x7f\u202e\u2028\x00"
FORMATS = ("json", "console")

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _logging_of_the_test_run_stays() -> Iterator[None]:
    with log_state_kept():
        yield


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Lines:
    return lambda: capfd.readouterr().err.removesuffix("\n").split("\n")


def configured(
    form: str,
    level: LogLevel = LogLevel.INFO,
    service: str = "",
    sampling: Mapping[str, int] = MappingProxyType({}),
) -> None:
    settings = LoggingSettings.model_validate(
        {"format": form, "level": level, "sampling": dict(sampling)}
    )
    configure_logging(settings, service)


def event(**fields: Any) -> Event:
    return Event(kind="delivered", at=1700000000.5, mail_id="M1", **fields)


def harmless(line: str) -> bool:
    return not any(
        unicodedata.category(mark) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and mark != "\xad"
        for mark in line
    )


def test_an_event_is_one_json_line_with_its_ids_first(lines: Lines) -> None:
    configured("json", service="delivery")

    log_event(event(job_id="J1", recipients=("a@b.example",), reply="250 2.0.0 Ok", attempt=2))

    (line,) = lines()
    assert json.loads(line) == {
        "mail_id": "M1",
        "job_id": "J1",
        "event": "delivered",
        "level": "info",
        "timestamp": 1700000000.5,
        "service": "delivery",
        "recipients": ["a@b.example"],
        "reply": "250 2.0.0 Ok",
        "attempt": 2,
    }
    assert list(json.loads(line))[:3] == ["mail_id", "job_id", "event"]


def test_any_other_line_has_the_same_form(lines: Lines) -> None:
    configured("json", service="router")
    before = time.time()

    get_logger().warning("broker lost", detail="reset", error=OSError("gone"))

    entry = json.loads(lines()[0])
    assert before <= entry.pop("timestamp") <= time.time()
    assert entry == {
        "event": "broker lost",
        "level": "warning",
        "service": "router",
        "detail": "reset",
        "error": "OSError('gone')",
    }


@pytest.mark.parametrize("form", FORMATS)
def test_text_from_a_peer_breaks_no_line_and_drives_no_terminal(form: str, lines: Lines) -> None:
    configured(form)

    log_event(event(reply=EVIL, recipients=(EVIL,), destination=EVIL))
    get_logger().error(EVIL, text=EVIL, items=[EVIL])

    found = lines()
    assert len(found) == 2
    assert all(harmless(line) for line in found)
    assert all(r"\u001b" in line for line in found)


@pytest.mark.parametrize("form", FORMATS)
def test_ids_are_what_a_line_begins_with(form: str, lines: Lines) -> None:
    configured(form, service="delivery")

    log_event(event(job_id="J1", reply="250 Ok"))
    get_logger().warning("late", error="x", mail_id="M2", job_id="J2")
    get_logger().error("failed", queue="q", message_id="M3")

    first, second, third = lines()
    if form == "console":
        assert first.startswith("M1 J1 ")
        assert second.startswith("M2 J2 ")
        assert third.startswith("M3 ")
    else:
        assert list(json.loads(first))[:3] == ["mail_id", "job_id", "event"]
        assert list(json.loads(second))[:4] == ["mail_id", "job_id", "event", "level"]
        assert list(json.loads(third))[:2] == ["message_id", "event"]


def test_a_console_line_without_ids_begins_with_its_time(lines: Lines) -> None:
    configured("console")

    get_logger().info("started", admin_port=9101)

    log_event(event(recipients=("a@b.test", "c@d.test")))

    started, delivered = lines()
    assert " recipients=a@b.test,c@d.test" in delivered
    assert re.match(r"\d\d:\d\d:\d\d\.\d+ \[info     \] started +admin_port=9101$", started)


class Named:
    """An object whose representation is what a stranger said."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


ANY_TEXT = st.text(st.characters()) | st.text(EVIL + "\ud800\udcff\u2029\ufeff=\"' ")


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_no_text_breaks_a_console_line_or_drives_a_terminal(
    text: str, ident: str, kind: str
) -> None:
    line: Any = {"event": kind, "mail_id": ident, "reply": text, "those": [text], "a": Named(text)}
    line["recipients"] = (text, Named(text))
    for process in _console_chain("delivery", terminal=False):
        line = process(None, "info", line)

    assert harmless(line.decode("utf-8"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_sampled_line_says_for_how_many_it_stands(form: str, lines: Lines) -> None:
    configured(form, sampling={"delivered": 4})

    mails = [f"M{number}" for number in range(400)]
    for mail_id in mails:
        log_event(Event("delivered", 1.0, mail_id))
        log_event(Event("failed", 1.0, mail_id))
        log_event(Event("accepted", 1.0, mail_id))
    get_logger().warning("seen")

    found = lines()
    delivered = [line for line in found if "delivered" in line]
    assert 60 <= len(delivered) <= 140, "chance, but always the same"
    mark = '"sampled":4' if form == "json" else "sampled=4"
    assert all(mark in line for line in delivered)
    rest = [line for line in found if "delivered" not in line]
    assert len(rest) == 2 * len(mails) + 1
    assert not any("sampled" in line for line in rest)


@pytest.mark.parametrize("form", FORMATS)
def test_what_only_moves_from_queue_to_queue_is_told_to_who_debugs(form: str, lines: Lines) -> None:
    moved = Event("given_back", 1.0, "M1", "J1", reason="limit")
    configured(form)
    log_detail(moved)
    log_event(event())
    configured(form, LogLevel.DEBUG)
    log_detail(moved)

    delivered, given_back = lines()
    assert "delivered" in delivered
    assert "given_back" in given_back
    assert "debug" in given_back


def test_a_parked_message_that_nobody_can_read_is_named_as_its_publisher_did(lines: Lines) -> None:
    configured("json")

    log_parked("X1", "undecodable", "not MessagePack", 1.5)

    entry = json.loads(lines()[0])
    assert (entry["job_id"], entry["event"], entry["reason"]) == ("X1", "parked", "undecodable")
    assert "mail_id" not in entry
    assert (entry["reply"], entry["timestamp"]) == ("not MessagePack", 1.5)


@pytest.mark.parametrize("form", FORMATS)
def test_text_that_is_not_unicode_is_logged_all_the_same(form: str, lines: Lines) -> None:
    configured(form)

    log_event(event(reply=b"550 \xff\xfe no".decode("utf-8", "surrogateescape")))

    (line,) = lines()
    assert r"\udcff" in line


def whole(text: str) -> str:
    """Two halves of a character side by side are that character, as everywhere in JSON."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


@given(ANY_TEXT)
@example("\ud800\udc00")
@example("\udc00\ud800")
def test_any_text_survives_json_in_one_harmless_line(text: str) -> None:
    line = to_json({"reply": text}).decode("utf-8")

    assert harmless(line)
    assert json.loads(line) == {"reply": whole(text)}


@given(ANY_TEXT)
def test_escaped_text_is_harmless(text: str) -> None:
    assert harmless(escape(text))


def test_a_long_reply_is_clipped(lines: Lines) -> None:
    configured("json")

    log_event(event(reply="x" * 10_000))

    assert len(json.loads(lines()[0])["reply"]) == LONGEST_TEXT + 3


@pytest.mark.parametrize("form", FORMATS)
def test_events_are_below_the_level_of_warnings(form: str, lines: Lines) -> None:
    configured(form, LogLevel.WARNING)

    log_event(event())
    get_logger().info("started")
    get_logger().warning("seen")

    assert len(lines()) == 1


def test_what_libraries_log_is_a_json_line_too(lines: Lines) -> None:
    configured("json")

    logging.getLogger("some.library").warning("peer said %s", EVIL)
    logging.getLogger("some.library").info("not seen")

    (line,) = lines()
    assert harmless(line)
    entry = json.loads(line)
    assert entry["logger"] == "some.library"
    assert entry["event"] == f"peer said {EVIL}"


@pytest.mark.parametrize("form", FORMATS)
def test_a_traceback_shows_no_local_variables(form: str, lines: Lines) -> None:
    configured(form)
    body = "dear customer, your password is secret"

    try:
        raise ValueError(f"{len(body)} octets{EVIL}")
    except ValueError:
        get_logger().exception("handler failed")

    text = "\n".join(lines())
    assert "Traceback" in text
    assert "secret" not in text
    assert harmless(text.replace("\n", ""))


CHILD = """
import os, sys
from shared import metrics
from shared.logs import configure_logging, get_logger, log_event
from shared.messages.model import Event
from shared.settings.model import LoggingSettings

keep = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)  # descriptor 2, when 2 was closed
configure_logging(LoggingSettings(format=sys.argv[2]))
log_event(Event(kind="delivered", at=1.0, mail_id="M1"))
get_logger().error("trouble")
print(int(metrics.dropped_log_lines._value.get()))
"""


def run_child(
    tmp_path: Path, form: str, redirect: str, stderr: int | None = None
) -> tuple[str, Path]:
    kept = tmp_path / "kept"
    command = [sys.executable, "-c", CHILD, str(kept), form]
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip(), kept


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_drops_lines_and_counts_them_and_nothing_else(
    tmp_path: Path, form: str
) -> None:
    dropped, _ = run_child(tmp_path, form, "2>/dev/full")

    assert dropped == "2"


def test_a_reader_that_went_away_drops_lines_and_nothing_else(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        dropped, _ = run_child(tmp_path, "json", "", stderr=writer)
    finally:
        os.close(writer)

    assert dropped == "2"


def test_a_process_without_standard_error_logs_into_no_other_file(tmp_path: Path) -> None:
    _, kept = run_child(tmp_path, "json", "2>&-")

    assert kept.read_bytes() == b""


async def test_events_of_one_turn_of_the_loop_are_whole_lines_of_few_writes() -> None:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reader, writer:
        reader.setblocking(False)
        sink = _Sink(writer.fileno())
        lines = [b"%04d" % number + b"x" * 1000 for number in range(10)]
        for line in lines:
            sink.write_soon(line)
        await asyncio.sleep(0)
        written = [reader.recv(65536) for _ in range(3)]
        assert max(map(len, written)) <= select.PIPE_BUF
        assert all(piece.endswith(b"\n") for piece in written)
        assert b"".join(written).splitlines() == lines
