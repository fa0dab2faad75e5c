"""One SMTP session of a receiver: bytes in bulk from the transport, replies in one write a read.

A plain `asyncio.Protocol` without a task or a coroutine a line, so that a receiver is never the
slow part of a measurement. It follows its `Script` and hands finished transactions to its
`Receiver`; it decides nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections.abc import Callable
from typing import ClassVar, cast

from services.demo.answers import ScriptedAnswers, Then
from services.demo.home import Home
from services.demo.script import GREYLISTED, OK, RECIPIENT_OK, Received, Stage
from shared.smtp.replies import Reply

LONGEST_COMMAND = 8192
_PATH = re.compile(r"(?i)(?:FROM|TO):\s*<([^>]*)>\s*(.*)")
_NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
_BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
_TOO_LARGE = Reply(552, "5.3.4", "Message too large")


class Session(ScriptedAnswers):
    """The protocol object of one connection."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self._buffer = bytearray()
        self._in_data = False
        self._searched = 0
        self._helo = ""
        self._reset()

    def _reset(self) -> None:
        self._reverse_path: str | None = None
        self._parameters: tuple[str, ...] = ()
        self._recipients: list[str] = []
        self._chunk: tuple[int, bool] | None = None
        self._chunks = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the banner."""
        self._transport = cast("asyncio.Transport", transport)
        self._number, self._raw = self._home.opened(self)
        self._answer(Stage.BANNER, Reply(220, "", "receiver.test ESMTP"))
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the receiver."""
        self._held = True
        self._home.closed(self)

    def data_received(self, data: bytes) -> None:
        """Handle every whole command and content in the buffer, then write once."""
        self._buffer += data
        if self._home.keep == "all":
            self._raw += data
        self._work()
        self._home.noticed()

    def close(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def _work(self) -> None:
        while not self._held and self._read_next():
            pass
        self._flush()

    def _read_next(self) -> bool:
        if self._in_data:
            return self._read_content()
        return self._read_command() if self._chunk is None else self._read_chunk(*self._chunk)

    def _read_command(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > LONGEST_COMMAND:
                self._hang_up()
            return False
        line = self._buffer[:end].decode("utf-8", "surrogateescape")
        del self._buffer[: end + 2]
        verb, _, argument = line.partition(" ")
        handler = self._VERBS.get(verb.upper())
        if handler is None:
            self._out.append(Reply(502, "5.5.2", "Not implemented").to_bytes())
        else:
            handler(self, argument)
        return True

    def _ehlo(self, argument: str) -> None:
        self._reset()
        self._helo = argument
        secured = self._transport.get_extra_info("ssl_object") is not None
        lines = self._home.script.extension_lines(self._home.tls is not None and not secured)
        self._answer(Stage.EHLO, Reply(250, "", "\n".join(["receiver.test", *lines])))

    def _helo_command(self, argument: str) -> None:
        self._reset()
        self._helo = argument
        self._out.append(Reply(250, "", "receiver.test").to_bytes())

    def _starttls(self, _argument: str) -> None:
        if self._home.tls is None:
            self._out.append(_BAD_SEQUENCE.to_bytes())
        else:
            self._answer(Stage.STARTTLS, Reply(220, "2.0.0", "Go ahead"), self._secure)

    def _secure(self) -> None:
        self._held = True
        self._out.append(self._home.script.after_starttls)
        self._flush()
        self._buffer.clear()
        self._handshake = asyncio.ensure_future(self._do_handshake())

    async def _do_handshake(self) -> None:
        assert self._home.tls is not None
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                self._transport, self, self._home.tls, server_side=True, ssl_handshake_timeout=10
            )
        except (OSError, ssl.SSLError):
            self._transport.abort()
            return
        if secured is not None:
            self._transport = secured
            self._helo = ""
            self._reset()
            self._held = False
            self._work()

    def _mail(self, argument: str) -> None:
        match = _PATH.match(argument)
        if match is None or self._reverse_path is not None:
            self._out.append(_BAD_SEQUENCE.to_bytes())
            return
        parameters = tuple(match[2].split())
        if _declared_size(parameters) > self._home.script.size:
            self._out.append(_TOO_LARGE.to_bytes())
            return
        self._answer(Stage.MAIL, OK, lambda: self._begin(match[1], parameters))

    def _begin(self, reverse_path: str, parameters: tuple[str, ...]) -> None:
        self._reverse_path, self._parameters = reverse_path, parameters

    def _rcpt(self, argument: str) -> None:
        match = _PATH.match(argument)
        if match is None or self._reverse_path is None:
            self._out.append(_BAD_SEQUENCE.to_bytes())
            return
        self._answer(Stage.RCPT, *self._judge(self._reverse_path, match[1]))

    def _judge(self, reverse_path: str, forward_path: str) -> tuple[Reply | bytes, Then]:
        scripted = self._home.script.reply_to_recipient(forward_path)
        if scripted is not None:
            return scripted, None
        if self._home.greylisted(reverse_path, forward_path):
            return GREYLISTED, None
        return RECIPIENT_OK, lambda: self._recipients.append(forward_path)

    def _data(self, _argument: str) -> None:
        if not self._recipients:
            reply = _BAD_SEQUENCE if self._reverse_path is None else _NO_RECIPIENTS
            self._out.append(reply.to_bytes())
            return
        self._answer(Stage.DATA, Reply(354, "", "End with CRLF.CRLF"), self._expect_content)

    def _expect_content(self) -> None:
        self._in_data = True
        self._searched = 0

    def _bdat(self, argument: str) -> None:
        size, _, last = argument.partition(" ")
        self._chunk = int(size), last == "LAST"

    def _read_chunk(self, size: int, last: bool) -> bool:
        if len(self._buffer) < size:
            return False
        self._chunks += self._buffer[:size]
        del self._buffer[:size]
        self._chunk = None
        if not self._recipients:
            self._out.append(_BAD_SEQUENCE.to_bytes())
        elif last:
            self._judge_content(bytes(self._chunks))
        else:
            self._answer(Stage.CHUNK, OK)
        return True

    def _rset(self, _argument: str) -> None:
        self._reset()
        self._answer(Stage.RSET, OK)

    def _noop(self, _argument: str) -> None:
        self._out.append(OK.to_bytes())

    def _quit(self, _argument: str) -> None:
        self._answer(Stage.QUIT, Reply(221, "2.0.0", "Bye"), self._hang_up)

    def _read_content(self) -> bool:
        if self._buffer.startswith(b".\r\n"):
            self._take(b"", 3)
            return True
        end = self._buffer.find(b"\r\n.\r\n", self._searched)
        if end < 0:
            self._searched = max(0, len(self._buffer) - 4)
            return False
        self._take(_unstuffed(bytes(memoryview(self._buffer)[: end + 2])), end + 5)
        return True

    def _take(self, content: bytes, octets: int) -> None:
        del self._buffer[:octets]
        self._in_data = False
        self._judge_content(content)

    def _judge_content(self, content: bytes) -> None:
        if len(content) > self._home.script.size:
            self._out.append(_TOO_LARGE.to_bytes())
        else:
            self._finish(self._received(content))
        self._reset()

    def _finish(self, received: Received) -> None:
        if Stage.DOT in self._home.script.drop_at:
            self._home.took(received, answered=False)
        self._answer(Stage.DOT, OK, lambda: self._home.took(received, answered=True))

    def _received(self, content: bytes) -> Received:
        header, _, body = content.partition(b"\r\n\r\n")
        kept = self._home.keep == "all"
        return Received(
            reverse_path=self._reverse_path or "",
            recipients=tuple(self._recipients),
            header=header,
            content=content if kept else b"",
            size=len(content),
            body_digest="" if kept else hashlib.sha256(body).hexdigest(),
            at=self._home.now(),
            connection=self._number,
            helo=self._helo,
            tls=self._transport.get_extra_info("ssl_object") is not None,
            mail_parameters=self._parameters,
        )

    _VERBS: ClassVar[dict[str, Callable[[Session, str], None]]] = {
        "EHLO": _ehlo,
        "HELO": _helo_command,
        "STARTTLS": _starttls,
        "MAIL": _mail,
        "RCPT": _rcpt,
        "DATA": _data,
        "BDAT": _bdat,
        "RSET": _rset,
        "NOOP": _noop,
        "QUIT": _quit,
    }


def _declared_size(parameters: tuple[str, ...]) -> int:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.upper() == "SIZE" and value.isdecimal():
            return int(value)
    return 0


def _unstuffed(content: bytes) -> bytes:
    """RFC 5321, 4.5.2: the first dot of each line that begins with one is taken away."""
    return content.removeprefix(b".").replace(b"\r\n.", b"\r\n")
