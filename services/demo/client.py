"""Submits messages over a few SMTP sessions at a time: pipelined, with the time each accept took.

What ingress does not take for the moment is tried again; what it refuses for good, or still does
not take after `TRIES`, is counted as not accepted. Nothing is sent twice after a 250.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.demo.plan import Planned

TRIES = 10
PAUSE = 0.2
"""Seconds before a message or a session is tried again."""
CLOSE_TIMEOUT = 5.0
REPLY_TIMEOUT = 60.0
"""Seconds to wait for any reply."""

_QUEUED_AS = re.compile(r"queued as (\S+)")


class Refusal(Exception):  # noqa: N818 - a refusal is not always an error
    """A command was not answered as hoped; the session cannot be used any more."""


@dataclass(frozen=True, slots=True)
class Submission:
    """Where to submit, what, and whom to tell: `accepted(planned, mail_id, at, latency)`."""

    port: int
    build: Callable[[Planned], bytes]
    accepted: Callable[[Planned, str, float, float], None]
    not_accepted: Callable[[Planned, str], None]
    pause: float = PAUSE


@dataclass(slots=True)
class _Entry:
    planned: Planned
    tries: int = 0


@dataclass(slots=True)
class _Session:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def reply(self) -> tuple[int, str]:
        """Code and last line of the next reply."""
        async with asyncio.timeout(REPLY_TIMEOUT):
            while True:
                line = await self.reader.readline()
                if not line.endswith(b"\r\n"):
                    raise ConnectionResetError("connection closed by ingress")
                if line[3:4] != b"-":
                    return int(line[:3]), line.decode("utf-8", "replace").rstrip()

    async def expect(self, code: int) -> str:
        """The last line of the next reply. Raises `Refusal` unless its code is `code`."""
        got, text = await self.reply()
        if got != code:
            raise Refusal(text)
        return text

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(CLOSE_TIMEOUT):  # what is unsent may wait for the peer
                await self.writer.wait_closed()
        self.writer.transport.abort()


async def submit_all(submission: Submission, plan: Iterable[Planned], sessions: int = 20) -> None:
    """Submit every message of `plan`; returns when each was accepted or given up."""
    todo = deque(_Entry(planned) for planned in plan)
    async with asyncio.TaskGroup() as group:
        for _ in range(sessions):
            group.create_task(_work(submission, todo))


async def _work(submission: Submission, todo: deque[_Entry]) -> None:
    while todo:
        session = None
        try:
            session = await _connect(submission.port)
            await _greet(session)
            await _use(session, submission, todo)
        except (OSError, ValueError, Refusal):
            await asyncio.sleep(submission.pause)
        finally:
            if session is not None:
                await session.close()


async def _connect(port: int) -> _Session:
    async with asyncio.timeout(REPLY_TIMEOUT):
        return _Session(*await asyncio.open_connection("127.0.0.1", port))


async def _greet(session: _Session) -> None:
    await session.expect(220)
    session.writer.write(b"EHLO demo.sender.test\r\n")
    await session.expect(250)


async def _use(session: _Session, submission: Submission, todo: deque[_Entry]) -> None:
    while todo:
        entry = todo.popleft()
        try:
            await _send(session, submission, entry.planned)
        except (OSError, ValueError, Refusal) as error:
            _try_again(submission, todo, entry, str(error) or type(error).__name__)
            raise
    session.writer.write(b"QUIT\r\n")
    await session.reply()


def _try_again(submission: Submission, todo: deque[_Entry], entry: _Entry, reason: str) -> None:
    entry.tries += 1
    if entry.tries < TRIES:
        todo.append(entry)
    else:
        submission.not_accepted(entry.planned, reason)


async def _send(session: _Session, submission: Submission, planned: Planned) -> None:
    content = submission.build(planned)
    wire = content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
    began = time.perf_counter()
    session.writer.write(_envelope(planned, len(content)))
    for code in (250, *(250 for _ in planned.recipients), 354):
        await session.expect(code)
    session.writer.write(wire)
    text = await session.expect(250)
    latency = time.perf_counter() - began
    match = _QUEUED_AS.search(text)
    submission.accepted(planned, match[1] if match else "", time.time(), latency)


def _envelope(planned: Planned, size: int) -> bytes:
    commands = [f"MAIL FROM:<{planned.reverse_path}> SIZE={size}"]
    commands += [f"RCPT TO:<{path}>" for path in planned.recipients]
    return "".join(f"{command}\r\n" for command in [*commands, "DATA"]).encode()
