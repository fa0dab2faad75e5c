"""One session's socket: octets to lines and content, replies to octets, in `data_received`.

Everything frequent happens synchronously, in as many steps as there are blocks, and all replies
to one block leave in one write. Only AUTH and STARTTLS run as tasks. What a session holds is
bounded: reading stops while a reply is owed and input piles up, or while the client does not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from services.ingress.admission import Admission
from services.ingress.chunks import Chunk
from services.ingress.context import Context
from services.ingress.dialogue import Dialogue, Mode
from services.ingress.exchange import AuthExchange
from services.ingress.link import Link, count_refusal, peer_address
from services.ingress.login import Login
from services.ingress.patience import Patience
from services.ingress.policy import banner, message_limit
from services.ingress.tls import certificate_names, description, secure
from services.ingress.transaction import Transaction
from shared.logs import get_logger
from shared.smtp import server_replies as replies
from shared.smtp.data import DataFault, DataReader
from shared.smtp.lines import LineReader
from shared.smtp.server_replies import ServerReply

MOST_UNREAD = 65_536
"""Octets that wait while a reply is owed, before we stop reading."""
PROGRESS = 4096
"""Octets of content that count as activity: a drip of single octets does not."""

# Why no further command is carried out now; a set of bits. Plain numbers: this is the hot path.
_STORING = 1
_AUTH = 2
_TLS = 4
_CHOKED = 8
_CLOSED = 16

Task = asyncio.Task[None]

_DATA_FAULTS = {
    DataFault.TOO_LARGE: replies.TOO_LARGE,
    DataFault.BARE_LINE_END: replies.BARE_CONTENT_LINE_END,
}


class SmtpServer(AuthExchange):
    """The protocol object of one connection; `client` is its address if a balancer told it."""

    def __init__(self, context: Context, client: str = "") -> None:
        self._context = context
        self._client = client
        self._admission: Admission | None = None
        self._link: Link
        self._dialogue: Dialogue
        self.lines = LineReader()
        self._line_waiter = None
        self._content: DataReader | Chunk | None = None
        self._holds = self._progress = 0
        self._eof = False
        self._login: Login | None = None
        self._patience = Patience(context.patience)
        self._task: Task | None = None
        self._handshake: Task | None = None
        self.seen = 0.0

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there: greet it, or send it away."""
        context = self._context
        self._link = Link(cast("asyncio.Transport", transport))
        secured = transport.get_extra_info("sslcontext") is not None
        address = self._client or peer_address(transport)
        self._dialogue = Dialogue(context.rules, address, secured, context.blocked, context.quotas)
        self._know_certificate(transport)
        self._holds, self._handshake = 0, None
        refusal = self.admit(address) if self._admission is None else None
        if refusal is not None:
            self._end(refusal)
        else:
            self._link.write(banner(context.rules).wire)

    def admit(self, address: str, handshake: Task | None = None) -> ServerReply | None:
        """Why there can be no session. Where TLS comes first it is asked before the `handshake`."""
        self._admission = Admission(self._context, self, address)
        self._handshake, self._holds = handshake, _TLS if handshake else 0
        return self._admission.refusal()

    def handshake_ended(self) -> None:
        """Whether it failed; then the session is over."""
        if self._handshake is not None and self._admission is not None:
            self._admission.leave()

    def _know_certificate(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        self._dialogue.certificate_names = certificate_names(tls)
        self._dialogue.tls = description(tls)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone. A mail that is being stored goes on without it."""
        self._link.lost()
        self._content = None
        self._holds |= _CLOSED
        if self._admission is not None:
            self._admission.leave()
            self._admission = None  # they name each other: none shall wait for the collector
        self._dialogue.leave()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Octets have come."""
        if self._holds & _CLOSED:
            return
        try:
            if self._content is not None:
                self._read_content(data)
            else:
                self.lines.feed(data)
            if self._holds & _AUTH:
                self.wake_exchange()
            self._run()
        except Exception:
            get_logger().exception("a session failed", client=self._dialogue.address)
            self._end(replies.TROUBLE)

    def eof_received(self) -> bool:
        """The client sends no more; True keeps the link for a reply that is still owed."""
        self._eof = bool(self._holds & _STORING) and not self._dialogue.secured
        return self._eof

    def pause_writing(self) -> None:
        """The client does not read its replies."""
        self._holds |= _CHOKED
        self._regulate()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._holds &= ~_CHOKED
        self._run()

    # What `Sessions` calls.

    def time_out(self, reply: ServerReply) -> None:
        """Nothing useful has come for too long."""
        if self._holds & (_CHOKED | _CLOSED):
            self._link.abort()
        elif not self._holds & (_STORING | _TLS):
            self._end(reply)

    def overdue(self, now: float) -> ServerReply | None:
        """What to say if transaction or content take too long."""
        if self._holds & _TLS:
            return None
        return self._patience.overdue(now, self._dialogue.transaction, self._content)

    def shed(self) -> bool:
        """Somebody else needs the room. Whether this one gives it."""
        if self._holds & _STORING:
            return False
        if self._holds & _TLS:
            count_refusal(replies.SHED)
            self._cut()
        else:
            self.time_out(replies.SHED)
        return True

    def _cut(self) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
        else:
            self._link.abort()

    def drain(self, patience_over: bool) -> None:
        """End now if nothing is under way; else `_run` does after the transaction."""
        busy = self._holds or self._dialogue.transaction is not None
        if patience_over and self._holds & (_TLS | _CHOKED | _CLOSED):
            self._cut()
        elif not busy or (patience_over and not self._holds & _STORING):
            self._end(replies.SHUTTING_DOWN)

    # Reading.

    def _run(self) -> None:
        """Carry out what was received, as far as nothing holds it up; send all replies."""
        dialogue, link = self._dialogue, self._link
        while not self._holds and self._content is None:
            line = self.lines.next()
            if line is None:
                break
            self.seen = self._context.sessions.now
            reply = dialogue.command(line) if isinstance(line, bytes) else dialogue.fault(line)
            if reply is not None:
                link.reply(reply)
            if dialogue.mode is not Mode.COMMANDS:
                self._change_mode(dialogue)
        link.flush()
        if self._holds or link.paused:
            self._regulate()
        if self._eof and not self._holds:
            self._close()
        if self._context.sessions.draining:
            self.drain(patience_over=False)

    def _change_mode(self, dialogue: Dialogue) -> None:
        mode = dialogue.mode
        if mode is Mode.CONTENT:
            self._content_begins(dialogue)
            self._content = DataReader(message_limit(dialogue.rules, dialogue.user))
            self._progress = 0
            # A client that did not wait for 354 is taken at its word: this is content.
            if len(self.lines):
                self._read_content(self.lines.take_rest())
        elif mode is Mode.CHUNK:
            self._content_begins(dialogue)
            self._content = dialogue.chunk
            self._progress = 0
            self._read_content(self.lines.take_rest())
        elif mode is Mode.CLOSED:
            self._close()
        elif mode is Mode.DATA_REFUSED:
            self._after_refused_data(dialogue)
        elif mode is Mode.AUTH:
            self._hold_for(_AUTH, self._run_auth(dialogue))
        else:
            self._start_tls()

    def _content_begins(self, dialogue: Dialogue) -> None:
        if dialogue.transaction is not None:
            self._context.acceptance.content_begins(dialogue.transaction)

    def _after_refused_data(self, dialogue: Dialogue) -> None:
        """Octets behind DATA are a content, which must not be read as commands (RFC 2920, 3.1)."""
        dialogue.mode = Mode.COMMANDS
        if len(self.lines):
            self._end(replies.UNSYNCHRONIZED)

    def _read_content(self, data: bytes) -> None:
        content = self._content
        assert content is not None
        rest = content.feed(data)
        if rest is None:
            self._note_progress(len(data))
            return
        self._content = None
        self.lines.feed(rest)
        self.seen = self._context.sessions.now
        if isinstance(content, Chunk):
            reply = self._dialogue.end_chunk()
            if reply is not None:
                self._reply(reply)
                return
        transaction = self._dialogue.end_content()
        if isinstance(content, DataReader):
            self._accept(transaction, content.result())
        else:
            self._accept(transaction, transaction.chunked())

    def _accept(self, transaction: Transaction, result: bytes | DataFault) -> None:
        if isinstance(result, DataFault):
            self._dialogue.settled(accepted=False)
            self._reply(self._dialogue.charge(_DATA_FAULTS[result]))
            return
        accept = self._context.acceptance.accept
        reply = accept(self._dialogue, transaction, result, self._answer)
        if reply is None:
            self._holds |= _STORING
        else:
            self._dialogue.settled(accepted=False)
            self._reply(self._dialogue.charge(reply))

    def _reply(self, reply: ServerReply) -> None:
        """Answer, and close if that was the last answer of the session."""
        self._link.reply(reply)
        if self._dialogue.mode is Mode.CLOSED:
            self._close()

    def _note_progress(self, octets: int) -> None:
        self._progress += octets
        if self._progress >= PROGRESS:
            self._progress = 0
            self.seen = self._context.sessions.now

    def _answer(self, reply: ServerReply) -> None:
        """The reply to a content, once custody is settled."""
        self._holds &= ~_STORING
        self._dialogue.settled(accepted=reply.positive)
        if self._holds & _CLOSED:
            return
        self._reply(self._dialogue.charge(reply))
        if self._context.sessions.draining:
            self._end(replies.SHUTTING_DOWN)
        else:
            self._run()

    # Holding and ending.

    def write(self, octets: bytes) -> None:
        """Send a line of an AUTH exchange."""
        self._link.write(octets)

    def _end(self, reply: ServerReply) -> None:
        if not self._holds & _CLOSED:
            self._link.reply(reply)
            self._close()

    def _close(self) -> None:
        """Nothing that was received is looked at any more."""
        self._holds |= _CLOSED
        self._content = None
        self.lines.take_rest()
        self._link.close()

    def _regulate(self) -> None:
        """Stop or start reading, by what holds us up."""
        if self._holds & (_TLS | _CLOSED):
            return
        piling_up = self._holds and len(self.lines) > MOST_UNREAD
        self._link.pause_reading(bool(piling_up or self._holds & _CHOKED))

    def _hold_for(self, hold: int, work: Coroutine[Any, Any, None]) -> None:
        self._link.flush()
        self._holds |= hold
        self._task = asyncio.get_running_loop().create_task(work)

    def _release(self, hold: int) -> None:
        self._task = None
        self._dialogue.mode = Mode.COMMANDS
        self._holds &= ~hold
        self._run()

    # STARTTLS and AUTH, as tasks.

    def _start_tls(self) -> None:
        # Plain text that came after STARTTLS is not from inside TLS (RFC 3207, 4.2; CVE-2011-0411).
        self.lines.take_rest()
        self._hold_for(_TLS, self._upgrade())
        self._link.pause_reading(True)

    async def _upgrade(self) -> None:
        plain, context = self._link.transport, self._context.tls
        assert plain is not None
        assert context is not None
        try:
            secured = await secure(plain, self, context)
        except OSError:
            count_refusal(replies.NO_TLS)
            plain.abort()
            self.connection_lost(None)
            return
        self._link = Link(secured)
        self._dialogue.start(secured=True)
        self._know_certificate(secured)
        self.seen = self._context.sessions.now
        self._release(_TLS)

    async def _run_auth(self, dialogue: Dialogue) -> None:
        if self._login is None:
            assert self._context.authentication is not None
            self._login = Login(self._context.authentication)
        reply = await self._login.answer(self, dialogue)
        if reply.positive and self._admission is not None:
            self._admission.trust()
        self._reply(dialogue.charge(reply))
        if reply.code == 421:
            self._close()
        elif self._login.is_over:
            self._end(replies.TOO_MANY_FAILURES)
        self._release(_AUTH)
