"""A world of receivers in one process: an SMTP server on many addresses of loopback, one a site.

`python -m tests.bench.receiver PORT DELAY ADDRESS...`. Each transaction is answered DELAY seconds
after its final dot; everything else at once. Nothing is kept but who got mail, and when. What it
knows it tells on standard output, a line of JSON for each line on standard input: `count` or
`report`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter, defaultdict
from typing import Any, cast

import uvloop

BACKLOG = 512
END = b"\r\n.\r\n"
HELLO = b"250-world.bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 30000000\r\n"
_PATH = re.compile(rb"<([^<>]*)>")


class World:
    """What came so far. `times` are `time.monotonic()`, when the final dot had come."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.count = 0
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self.connections: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def opened(self, address: str) -> None:
        """A connection came to this address of ours."""
        self.connections[address] += 1
        self.most[address] = max(self.most[address], self.connections[address])

    def answer(self, question: str) -> Any:
        """What is told for a line on standard input."""
        if question == "count":
            return self.count
        return {"times": self.times, "most": max(self.most.values(), default=0)}


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._buffer = bytearray()
        self._recipients: list[str] = []
        self._content = False
        self._waiting = False
        self._address = ""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        self._address = transport.get_extra_info("sockname")[0]
        self._world.opened(self._address)
        self._transport.write(b"220 world.bench.example\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._world.connections[self._address] -= 1

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        replies = []
        while not self._waiting and (reply := self._next()) is not None:
            replies.append(reply)
        if replies and not self._transport.is_closing():
            self._transport.write(b"".join(replies))

    def _next(self) -> bytes | None:
        """The reply to what has come whole, empty if it comes later; None: nothing is whole."""
        mark = END if self._content else b"\r\n"
        end = self._buffer.find(mark)
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        return self._dot() if self._content else self._command(line)

    def _dot(self) -> bytes:
        now = time.monotonic()
        self._content = False
        self._world.count += 1
        for recipient in self._recipients:
            self._world.times[recipient].append(now)
        if not self._world.delay:
            return b"250 2.0.0 Ok\r\n"
        self._waiting = True
        asyncio.get_running_loop().call_later(self._world.delay, self._answer)
        return b""

    def _answer(self) -> None:
        self._waiting = False
        if not self._transport.is_closing():
            self._transport.write(b"250 2.0.0 Ok\r\n")
            self._go_on()

    def _command(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"EHLO":
            return HELLO
        if verb == b"MAIL":
            self._recipients = []
        elif verb == b"RCPT":
            self._recipients += [path.decode() for path in _PATH.findall(line)]
        elif verb == b"DATA":
            self._content = True
            return b"354 Go ahead\r\n"
        elif verb == b"QUIT":
            self._transport.write(b"221 2.0.0 Bye\r\n")
            self._transport.close()
        return b"250 2.0.0 Ok\r\n"


async def serve(port: int, delay: float, addresses: list[str]) -> None:
    """Listen, and answer questions until standard input ends."""
    world = World(delay)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Session(world), addresses, port, backlog=BACKLOG)
    print(json.dumps("ready"), flush=True)
    questions = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    while question := (await questions.readline()).decode().strip():
        print(json.dumps(world.answer(question)), flush=True)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
