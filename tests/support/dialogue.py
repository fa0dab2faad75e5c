r"""Runs the text files of `tests/dialogues` against a real ingress.

A file is one rule. Its lines:

    # a comment
    settings: {max_message_bytes: 2048}    keys of `ingress`, before the first C or S
    listener: {auth: required}             keys of its one listener, likewise
    C: NOOP                                the client sends this line
    C-raw: a\nb\x00<<x*600>>               the client sends these octets, no CRLF added
    S: 250 2.0.0 Ok                        the server sends this line
    S: 250 2.0.0 Ok: queued as ...         ... that begins so
    closed                                 the server closes
    starttls                               the client says so, and both are under TLS
    broker: block | unblock | refuse | resume
    users: [{username: al, password: pw}]  the credentials file, likewise; AUTH needs no TLS
    hello: client.example                  the client says EHLO, and the server agrees
    login: al pw                           the client authenticates, and the server agrees
    accepted: <a@b.test> to <c@d.test>     one more mail was accepted, with this envelope
    content: Subject: x\r\n\r\nHello\r\n   its content after the Received line, also `... end`
    ---                                    a new connection

`C` lines know the escapes too. At the end of a connection the server must have no more to say.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared.broker.interface import Refused
from shared.messages.model import AcceptedMail
from tests.support.ingress import RunningIngress

TIMEOUT = 10.0
_LINE = re.compile(
    r"(settings|listener|users|hello|login|C|C-raw|S|broker|accepted|content):(?: (.*))?"
    r"|(closed|starttls|---)"
)
_REPEATED = re.compile(rb"<<(.+?)\*(\d+)>>", re.DOTALL)
_ESCAPE = re.compile(rb"\\(r|n|t|\\|x[0-9a-fA-F]{2})")
_PLAIN = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}


@dataclass(frozen=True)
class Step:
    """One line: what to do or to expect, and where it stands."""

    number: int
    verb: str
    text: str


@dataclass(frozen=True)
class Script:
    """A whole file."""

    settings: dict[str, Any]
    listener: dict[str, Any]
    users: list[dict[str, Any]]
    steps: tuple[Step, ...]


def read_script(path: Path) -> Script:
    """The steps of a file. ValueError for a line that is none."""
    options: dict[str, Any] = {"settings": {}, "listener": {}, "users": []}
    steps = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{path.name}:{number}: {line}")
        verb, text = match[1] or match[3], match[2] or ""
        if verb in options:
            options[verb] = yaml.safe_load(text)
        else:
            steps.append(Step(number, verb, text))
    return Script(options["settings"], options["listener"], options["users"], tuple(steps))


def octets(text: str) -> bytes:
    """The text with its escapes and repetitions carried out."""
    raw = _ESCAPE.sub(lambda m: _PLAIN.get(m[1]) or bytes.fromhex(m[1][1:].decode()), text.encode())
    return _REPEATED.sub(lambda m: m[1] * int(m[2]), raw)


class Runner:
    """Carries the steps of one script out; AssertionError names the line that was not met."""

    def __init__(self, ingress: RunningIngress, tls: ssl.SSLContext | None = None) -> None:
        self._ingress = ingress
        self._tls = tls
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._seen = 0

    async def run(self, steps: Iterable[Step]) -> None:
        """All steps, on as many connections as they ask for."""
        await self._connect()
        for step in steps:
            try:
                async with asyncio.timeout(TIMEOUT):
                    await self._step(step)
            except (AssertionError, OSError, EOFError, TimeoutError) as error:
                raise AssertionError(
                    f"line {step.number}: {step.verb} {step.text}: {error!r}"
                ) from error
        await self._finish()

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._ingress.port)

    async def _finish(self) -> None:
        """The server has no more to say; it closes when the client does."""
        if self._writer.can_write_eof() and not self._reader.at_eof():
            self._writer.write_eof()
        rest = await asyncio.wait_for(self._reader.read(), TIMEOUT)
        assert rest == b"", f"not expected: {rest!r}"
        self._writer.close()
        assert len(self._ingress.accepted()) == self._seen, "accepted more than expected"

    async def _step(self, step: Step) -> None:
        if step.verb == "C":
            self._writer.write(octets(step.text) + b"\r\n")
        elif step.verb == "C-raw":
            self._writer.write(octets(step.text))
            await self._writer.drain()
        elif step.verb == "S":
            _expect(step.text, (await self._reader.readuntil(b"\r\n"))[:-2].decode())
        elif step.verb == "hello":
            await self._hello(step.text)
        elif step.verb == "login":
            await self._login(step.text)
        elif step.verb == "closed":
            assert await self._reader.read(100) == b""
        elif step.verb == "starttls":
            self._writer.write(b"STARTTLS\r\n")
            _expect("220 ...", (await self._reader.readuntil(b"\r\n"))[:-2].decode())
            assert self._tls is not None
            await self._writer.start_tls(self._tls, server_hostname="localhost")
        elif step.verb == "---":
            await self._finish()
            await self._connect()
        elif step.verb == "broker":
            self._tell_broker(step.text)
        else:
            self._check_mail(step)

    async def _hello(self, name: str) -> None:
        self._writer.write(b"EHLO " + name.encode() + b"\r\n")
        line = b"250-"
        while line.startswith(b"250-"):
            line = await self._reader.readuntil(b"\r\n")
        _expect("250 ...", line[:-2].decode())

    async def _login(self, text: str) -> None:
        token = base64.b64encode(b"\0" + text.replace(" ", "\0").encode())
        self._writer.write(b"AUTH PLAIN " + token + b"\r\n")
        _expect("235 2.7.0 ...", (await self._reader.readuntil(b"\r\n"))[:-2].decode())

    def _tell_broker(self, what: str) -> None:
        broker = self._ingress.broker
        if what == "refuse":
            broker.fail(Refused("the queue is full"))
        else:
            {"block": broker.block, "unblock": broker.unblock, "resume": broker.resume}[what]()

    def _check_mail(self, step: Step) -> None:
        if step.verb == "content":
            _expect(step.text, _escaped(_content(self._ingress.accepted()[self._seen - 1])))
            return
        mails = self._ingress.accepted()
        assert len(mails) == self._seen + 1, f"{len(mails) - self._seen} more were accepted"
        mail = mails[self._seen]
        self._seen += 1
        recipients = " ".join(f"<{recipient.address}>" for recipient in mail.recipients)
        _expect(step.text, f"<{mail.reverse_path}> to {recipients}")


def _expect(wanted: str, got: str) -> None:
    if wanted.startswith("... "):
        assert got.endswith(wanted[4:]), f"got {got}"
    elif wanted.endswith("..."):
        assert got.startswith(wanted[:-3]), f"got {got}"
    else:
        assert got == wanted, f"got {got}"


def _content(mail: AcceptedMail) -> bytes:
    """What the client sent: all after the Received line."""
    lines = bytes(mail.content.inline).split(b"\r\n")
    assert lines[0].startswith(b"Received: ")
    count = 1 + next(i for i, line in enumerate(lines[1:]) if not line.startswith(b"\t"))
    return b"\r\n".join(lines[count:])


def _escaped(content: bytes) -> str:
    return content.decode().replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")
