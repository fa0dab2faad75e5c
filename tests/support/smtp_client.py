"""A plain SMTP client for tests, one verb at a time, with nothing hidden.

It sends what it is told, also what no good client would. A reply is its code and text. Losing the
connection is `ConnectionError`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

TIMEOUT = 30.0
MAIL_TROUBLE = (OSError, TimeoutError, asyncio.IncompleteReadError)
"""What a client sees when a server dies; each means: not accepted, try again."""


class Answer(NamedTuple):
    """A reply: `text` is without codes, its lines joined by newlines."""

    code: int
    text: str


class SmtpClient:
    """One session with the server on loopback `port`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            self.banner = await self.reply()
            await self.command("EHLO client.example")
        except BaseException:
            self._writer.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    async def reply(self) -> Answer:
        """The next reply, whole."""
        lines = []
        async with asyncio.timeout(TIMEOUT):
            while True:
                line = (await self._reader.readuntil(b"\r\n")).decode().rstrip("\r\n")
                lines.append(line[4:])
                if line[3:4] != "-":
                    return Answer(int(line[:3]), "\n".join(lines))

    async def write(self, octets: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(octets)
        async with asyncio.timeout(TIMEOUT):
            await self._writer.drain()

    async def starttls(self, context: ssl.SSLContext) -> Answer:
        """TLS with `localhost`, then EHLO anew, whose reply this is."""
        assert (await self.command("STARTTLS")).code == 220
        async with asyncio.timeout(TIMEOUT):
            await self._writer.start_tls(context, server_hostname="localhost")
        return await self.command("EHLO client.example")

    async def command(self, line: str) -> Answer:
        """Send a command, wait for its reply."""
        await self.write(line.encode() + b"\r\n")
        return await self.reply()

    async def begin(self, reverse_path: str, recipients: Sequence[str]) -> Answer:
        """MAIL, RCPT and DATA up to the 354; else the first reply that is none of 250 and 354."""
        commands = [f"MAIL FROM:<{reverse_path}>"]
        commands += [f"RCPT TO:<{recipient}>" for recipient in recipients]
        for line in commands:
            answer = await self.command(line)
            if answer.code != 250:
                return answer
        return await self.command("DATA")

    async def send(self, reverse_path: str, recipients: Sequence[str], content: bytes) -> Answer:
        """A whole transaction; the reply to the final dot, or the one that ended it earlier.

        `content` has CRLF line ends; it is dot-stuffed here.
        """
        answer = await self.begin(reverse_path, recipients)
        if answer.code != 354:
            await self.command("RSET")
            return answer
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        if stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        await self.write(stuffed + b".\r\n")
        return await self.reply()
