"""What accepting costs without postroad: aiosmtpd as it is, and no more than a bare protocol.

A process of its own, `python -m tests.bench.acceptors SERVER PORT`. Neither has a queue: a message
is answered 250 and forgotten.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

import uvloop
from aiosmtpd.smtp import SMTP, Envelope, Session

AIOSMTPD, BARE = "aiosmtpd", "bare protocol"
HOST = "127.0.0.1"
_HELLO = b"250-bench\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
_END = b"\r\n.\r\n"


class BareServer(asyncio.Protocol):
    """Answers by the first letter of a line; a content is looked for nothing but its end."""

    def __init__(self) -> None:
        self._buffer = b""
        self._content = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"220 bench\r\n")

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._buffer += data
        replies = []
        while (reply := self._next()) is not None:
            replies.append(reply)
        if replies:
            self._transport.write(b"".join(replies))
        if replies and replies[-1].startswith(b"221"):
            self._transport.close()

    def _next(self) -> bytes | None:
        mark = _END if self._content else b"\r\n"
        at = self._buffer.find(mark, max(0, len(self._buffer) - 65_600) if self._content else 0)
        if at < 0:
            return None
        line, self._buffer = self._buffer[:at], self._buffer[at + len(mark) :]
        if self._content:
            self._content = False
            return b"250 ok\r\n"
        if line[:1] == b"D":
            self._content = True
            return b"354 go\r\n"
        return {b"E": _HELLO, b"Q": b"221 bye\r\n"}.get(line[:1], b"250 ok\r\n")


class Forget:
    """The handler of aiosmtpd."""

    async def handle_DATA(self, _server: Any, _session: Session, _envelope: Envelope) -> str:
        """See aiosmtpd."""
        return "250 ok"


def _aiosmtpd() -> asyncio.Protocol:
    return SMTP(Forget(), hostname="bench", data_size_limit=None)


SERVERS = {AIOSMTPD: _aiosmtpd, BARE: BareServer}


async def serve(server: str, port: int) -> None:
    """Until it is killed."""
    listening = await asyncio.get_running_loop().create_server(SERVERS[server], HOST, port)
    await listening.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
