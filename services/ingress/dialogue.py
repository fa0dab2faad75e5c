"""One SMTP session without its socket (sans-IO): a command line in, a reply out.

It owns the state of session and transaction and the order of commands (RFC 5321, 4.1.4). It reads
no clock and writes nowhere. Where a command needs more than a reply, `mode` says so afterwards and
the shell does it: reads the content, runs AUTH or STARTTLS, closes.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from services.ingress import policy
from services.ingress.budget import Budget
from services.ingress.chunks import Chunk, ChunkedContent, parse_bdat
from services.ingress.policy import Rules, User
from services.ingress.senders import Quotas
from services.ingress.transaction import Transaction
from shared import metrics
from shared.smtp import server_replies as replies
from shared.smtp.commands import parse_auth, parse_hello, parse_mail, parse_rcpt
from shared.smtp.errors import ProtocolError
from shared.smtp.lines import LineFault
from shared.smtp.parameters import (
    NO_RECIPIENT_PARAMETERS,
    Body,
    MailParameters,
)
from shared.smtp.paths import ReversePath
from shared.smtp.server_replies import ServerReply

_HTTP_METHODS = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT"))
"""A browser that was led here must not get its body read as commands (ALPACA)."""


class Mode(Enum):
    """What the octets that come next are, or what the shell has to do before."""

    COMMANDS = "commands"
    CONTENT = "content"
    CHUNK = "chunk"
    DATA_REFUSED = "data refused"
    AUTH = "auth"
    STARTTLS = "starttls"
    CLOSED = "closed"


class Dialogue:
    """The state of one session; `blocked` tells whether mail can be stored now.

    `quotas` counts what users send. `certificate_names` are those in a client's certificate,
    `tls` is version and cipher.
    """

    __slots__ = (
        "_budget",
        "_chunk_refusal",
        "_holds",
        "_mails",
        "_quotas",
        "_storing",
        "address",
        "announced",
        "auth_argument",
        "blocked",
        "certificate_names",
        "chunk",
        "client_name",
        "extended",
        "mode",
        "rules",
        "secured",
        "tls",
        "transaction",
        "trusted",
        "user",
    )

    def __init__(
        self,
        rules: Rules,
        address: str,
        secured: bool,
        blocked: Callable[[], bool],
        quotas: Quotas,
    ) -> None:
        self.rules = rules
        self._quotas = quotas
        self.address = address
        self.blocked = blocked
        self._budget = Budget(rules.max_errors, rules.max_commands)
        self._mails = 0
        self.chunk: Chunk
        self._chunk_refusal: ServerReply | None = None
        self.user: User | None = None
        self.transaction: Transaction | None = None
        self._storing: tuple[User, int] | None = None
        self.start(secured)

    def start(self, secured: bool) -> None:
        """Know nothing from the client, as at the start and after STARTTLS (RFC 3207, 4.2)."""
        self.secured = secured
        self.mode = Mode.COMMANDS
        self.client_name = ""
        self.extended = False
        self.announced: frozenset[str] = frozenset()
        self.leave()
        self.trusted = policy.may_relay_from(self.rules, self.address)
        self.auth_argument: tuple[str, ...] = ()
        self.certificate_names: tuple[str, ...] = ()
        self.tls = ""

    def command(self, line: bytes) -> ServerReply | None:
        """Carry out one command; returns its reply, None where AUTH or a chunk is to give it.

        No octets raise anything.
        """
        verb, _, argument = line.partition(b" ")
        handle = _VERBS.get(verb) or _VERBS.get(verb.upper())
        if handle is None:
            return self._unknown(verb)
        try:
            reply = handle(self, argument.rstrip(b" \t"))
        except ProtocolError as error:
            reply = error.reply
        if reply is None or not reply.refusal:
            return reply
        # After a refused MAIL, everything that was pipelined behind it is refused as well.
        return self.charge(reply, forgiven=self.trusted and verb.upper() in _PIPELINED)

    def fault(self, fault: LineFault) -> ServerReply:
        """Answer a line that is no command."""
        if fault is LineFault.ENDLESS:
            self.mode = Mode.CLOSED
            return replies.LINE_TOO_LONG
        bare = fault is LineFault.BARE_LINE_END
        return self.charge(replies.BARE_LINE_END if bare else replies.LINE_TOO_LONG)

    def charge(self, reply: ServerReply, *, forgiven: bool = False) -> ServerReply:
        """Count what `reply` refuses; returns 421 instead, and closes, once it is too much.

        An error is what the client does wrong (5yz), unless it is `forgiven`.
        """
        if not reply.refusal or self.mode is Mode.CLOSED:
            return reply
        if self._budget.refused(error=reply.permanent and not forgiven):
            return reply
        self.mode = Mode.CLOSED
        return replies.TOO_MANY_ERRORS

    def leave(self) -> None:
        """Nobody is there any more: what was reserved for the user is given back."""
        self._forget_transaction()
        user, self.user = self.user, None
        if user is not None:
            self._quotas.leave(user)

    def authenticated(self, user: User, holds: Callable[[], bool] = lambda: True) -> bool:
        """AUTH succeeded, unless the user has too many sessions.

        `holds` tells later whether he is still that user.
        """
        if not self._quotas.enter(user):
            return False
        self.user = user
        self._holds = holds
        self.trusted = True
        return True

    def end_content(self) -> Transaction:
        """The content has ended, and with it the transaction (RFC 5321, 4.1.1.4)."""
        assert self.transaction is not None
        transaction, self.transaction = self.transaction, None
        if self.user is not None:
            self._storing = (self.user, len(transaction.recipients))
        self._chunk_refusal = None
        self.mode = Mode.COMMANDS
        return transaction

    def settled(self, *, accepted: bool) -> None:
        """The content is answered. A session that brings mail is of use."""
        if accepted:
            self._budget.clear()
        if self._storing is not None:
            (user, recipients), self._storing = self._storing, None
            self._quotas.end(user, recipients, accepted=accepted)

    def _forget_transaction(self) -> None:
        transaction, self.transaction = self.transaction, None
        self._chunk_refusal = None
        if transaction is not None and self.user is not None:
            self._quotas.end(self.user, len(transaction.recipients), accepted=False)

    def _unknown(self, verb: bytes) -> ServerReply:
        if verb.upper() in _HTTP_METHODS:
            self.mode = Mode.CLOSED
            return replies.NOT_A_MAIL_CLIENT
        return self.charge(replies.NOT_RECOGNIZED)

    def _idle(self, reply: ServerReply) -> ServerReply:
        """Answer a command that does nothing for a mail, as long as there are not too many."""
        if self._budget.idle():
            return reply
        self.mode = Mode.CLOSED
        return replies.TOO_MANY_COMMANDS

    def _ehlo(self, argument: bytes) -> ServerReply:
        self._hello(argument)
        self.extended = True
        state = self.rules, self.secured, self.user is not None, bool(self.certificate_names)
        self.announced = policy.parameters(*state)
        return self._idle(policy.ehlo(*state))

    def _helo(self, argument: bytes) -> ServerReply:
        self._hello(argument)
        self.extended = False
        self.announced = frozenset()
        return self._idle(policy.helo(self.rules))

    def _hello(self, argument: bytes) -> None:
        self.client_name = parse_hello(argument)
        self._give_up()

    def _give_up(self) -> None:
        if self.transaction is not None:
            self._budget.gave_up(1 + len(self.transaction.recipients))
        self._forget_transaction()

    def _mail(self, argument: bytes) -> ServerReply:
        if not self.client_name:
            return replies.HELLO_FIRST
        if self.transaction is not None:
            return replies.NESTED_MAIL
        reverse_path, parameters = parse_mail(argument, self.announced)
        refusal = self._refuse_mail(reverse_path, parameters)
        if refusal is not None:
            return refusal
        self._mails += 1
        self._chunk_refusal = None
        self.transaction = Transaction(reverse_path, parameters)
        return replies.SENDER_OK

    def _refuse_mail(
        self, reverse_path: ReversePath, parameters: MailParameters
    ) -> ServerReply | None:
        if self._mails >= self.rules.max_mails_per_session:
            self.mode = Mode.CLOSED
            return replies.TOO_MANY_MAILS
        user = self.user
        if user is not None and not self._holds():
            self.mode = Mode.CLOSED
            return replies.USER_CHANGED
        refusal = policy.check_mail(self.rules, self.trusted, user, parameters)
        if user is not None and refusal is None:
            refusal = policy.check_sender(user, reverse_path)
        if refusal is not None:
            return refusal
        if self.blocked():
            return replies.BLOCKED
        if user is not None and not self._quotas.message(user):
            return replies.MESSAGE_QUOTA
        return None

    def _rcpt(self, argument: bytes) -> ServerReply:
        transaction = self.transaction
        if transaction is None:
            return replies.MAIL_FIRST
        forward_path, wishes = parse_rcpt(argument, self.announced, transaction.parameters.smtputf8)
        refusal = policy.check_recipient(self.rules, self.trusted, len(transaction.recipients))
        if refusal is not None:
            return refusal
        if self.user is not None and not self._quotas.recipient(self.user):
            return replies.RECIPIENT_QUOTA
        if wishes is not NO_RECIPIENT_PARAMETERS:
            transaction.wishes[len(transaction.recipients)] = wishes
        transaction.recipients.append(forward_path)
        return replies.RECIPIENT_OK

    def _data(self, argument: bytes) -> ServerReply:
        self.mode = Mode.DATA_REFUSED
        if argument:
            return replies.NO_ARGUMENT
        if self.transaction is None:
            return replies.MAIL_FIRST
        if not self.transaction.recipients:
            return replies.NO_RECIPIENTS
        if self.transaction.chunks is not None or self._chunk_refusal is not None:
            return replies.DATA_AFTER_CHUNK
        if self.transaction.parameters.body is Body.BINARY_MIME:
            return replies.BINARY_NEEDS_CHUNKS
        self.mode = Mode.CONTENT
        return replies.START_CONTENT

    def _bdat(self, argument: bytes) -> None:
        self.mode = Mode.CLOSED  # after a wrong size nobody knows where commands go on
        self.chunk = parse_bdat(argument)
        self.mode = Mode.CHUNK
        self._chunk_refusal = self._refuse_chunk()

    def _refuse_chunk(self) -> ServerReply | None:
        transaction = self.transaction
        if transaction is None:
            return replies.MAIL_FIRST
        if self._chunk_refusal is not None:
            return replies.CHUNK_AFTER_REFUSED  # else what is left of a content would be a mail
        if not transaction.recipients:
            return replies.NO_RECIPIENTS
        if transaction.chunks is None:
            transaction.chunks = ChunkedContent(policy.message_limit(self.rules, self.user))
        return None if transaction.chunks.admit(self.chunk) else replies.TOO_LARGE

    def end_chunk(self) -> ServerReply | None:
        """The chunk has come: its reply, None if it was the last of a content."""
        self.mode = Mode.COMMANDS
        if self._chunk_refusal is not None:
            return self.charge(self._chunk_refusal, forgiven=self.trusted)
        return None if self.chunk.last else replies.CHUNK_TAKEN

    def _rset(self, argument: bytes) -> ServerReply:
        if argument:
            return replies.NO_ARGUMENT
        self._give_up()
        return self._idle(replies.OK)

    def _noop(self, _argument: bytes) -> ServerReply:
        return self._idle(replies.OK)

    def _quit(self, argument: bytes) -> ServerReply:
        if argument:
            return replies.NO_ARGUMENT
        self.mode = Mode.CLOSED
        return replies.CLOSING

    def _vrfy(self, _argument: bytes) -> ServerReply:
        return self._idle(replies.CANNOT_VERIFY)

    def _expn(self, _argument: bytes) -> ServerReply:
        return self._idle(replies.NOT_IMPLEMENTED)

    def _help(self, _argument: bytes) -> ServerReply:
        return self._idle(replies.HELP)

    def _starttls(self, argument: bytes) -> ServerReply:
        if argument:
            return replies.NO_ARGUMENT
        refusal = policy.check_starttls(self.rules, self.secured)
        if refusal is not None:
            return refusal
        self.mode = Mode.STARTTLS
        return replies.READY_FOR_TLS

    def _auth(self, argument: bytes) -> ServerReply | None:
        if not (self.client_name and self.extended):
            return replies.HELLO_FIRST
        in_transaction = self.transaction is not None
        refusal = policy.check_auth(self.rules, self.secured, self.user is not None, in_transaction)
        if refusal is not None:
            if refusal is replies.AUTH_NEEDS_TLS:
                mechanism = argument.partition(b" ")[0].upper().decode("latin-1")
                metrics.count_auth(mechanism, "unencrypted")
            return refusal
        self.auth_argument = parse_auth(argument)
        offered = policy.mechanisms(self.rules, self.secured, bool(self.certificate_names))
        if self.auth_argument[0] not in offered:
            metrics.count_auth("other", "unknown_mechanism")
            return replies.AUTH_MECHANISM
        self.mode = Mode.AUTH
        return None


_PIPELINED = frozenset((b"RCPT", b"DATA"))

# Below the class: in a compiled class, its functions have no names of their own yet.
# ruff: noqa: SLF001
_VERBS: dict[bytes, Callable[[Dialogue, bytes], ServerReply | None]] = {
    b"EHLO": Dialogue._ehlo,
    b"HELO": Dialogue._helo,
    b"MAIL": Dialogue._mail,
    b"RCPT": Dialogue._rcpt,
    b"DATA": Dialogue._data,
    b"BDAT": Dialogue._bdat,
    b"RSET": Dialogue._rset,
    b"NOOP": Dialogue._noop,
    b"QUIT": Dialogue._quit,
    b"VRFY": Dialogue._vrfy,
    b"EXPN": Dialogue._expn,
    b"HELP": Dialogue._help,
    b"STARTTLS": Dialogue._starttls,
    b"AUTH": Dialogue._auth,
}
