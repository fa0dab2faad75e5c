"""Custody point 1: a content becomes an accepted mail, and 250 is said once that is durable.

Whatever goes wrong here is ours, so the answer is 451 without detail, never 5yz. A publish that
has begun is never cancelled: the client may be gone, the mail is then accepted all the same.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from msgspec.structs import replace

from services.ingress.content import Inspected, class_of, inspect
from services.ingress.dialogue import Dialogue
from services.ingress.hygiene import Submission, prepare
from services.ingress.tracing import AcceptTracing
from services.ingress.transaction import Transaction
from shared import metrics
from shared.broker.interface import Broker, Outgoing, Refused, Unavailable, Unroutable
from shared.broker.topology import ACCEPTED
from shared.content.interface import ContentStore, ContentUnavailable, blob_name
from shared.events.emitter import Emitter, silent
from shared.events.make import of_mail
from shared.events.model import MailEvent
from shared.logs import clip, get_logger, log_event
from shared.mail.notify import merged
from shared.mail.text import folded, has_long_line
from shared.mail.trace import Hop, protocol, received_line
from shared.messages.codec import encode
from shared.messages.ids import mail_id
from shared.messages.model import (
    DEMANDING,
    PLAIN,
    SECRET,
    AcceptedMail,
    Content,
    DeliverBy,
    DsnWishes,
    Event,
    Recipient,
)
from shared.smtp.parameters import (
    NO_RECIPIENT_PARAMETERS,
    Body,
    By,
    MailParameters,
    RecipientParameters,
)
from shared.smtp.server_replies import (
    BLOCKED,
    LONG_LINE,
    MAIL_LOOP,
    NUL_IN_CONTENT,
    TROUBLE,
    ServerReply,
    queued,
)
from shared.tracing.tracer import Tracer

STORE_TIMEOUT = 60.0
"""Seconds a content may take to reach the store; the client waits ten minutes for its reply."""

Answer = Callable[[ServerReply], None]
"""How a session gets a reply that took time. It may have ended meanwhile."""

_count_accepted = metrics.accepted_messages.inc
_count_octets = metrics.ingress_bytes.inc


class Acceptance:
    """Takes mail for all sessions of the process. `clock` gives epoch seconds.

    With a `tracer`, clients of `trusted_tenants` may name the trace of their mail.
    """

    def __init__(
        self,
        broker: Broker,
        store: ContentStore,
        inline_max_bytes: int,
        clock: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = os.urandom,
        *,
        emitter: Emitter | None = None,
        tracer: Tracer | None = None,
        trusted_tenants: Collection[str] = (),
    ) -> None:
        self._broker = broker
        self._store = store
        self._inline_max_bytes = inline_max_bytes
        self._clock = clock
        self._entropy = entropy
        self._emitter = emitter or silent()
        self._tracing = AcceptTracing(tracer, trusted_tenants, clock) if tracer else None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def blocked(self) -> bool:
        """Whether mail cannot be stored now."""
        return self._broker.blocked

    async def wait_idle(self) -> None:
        """Return once every mail that was begun is answered."""
        await self._idle.wait()

    def content_begins(self, transaction: Transaction) -> None:
        """The client is told to send the content, or its first chunk."""
        if self._tracing is not None and not transaction.began:
            transaction.began = self._clock()

    def accept(
        self, dialogue: Dialogue, transaction: Transaction, content: bytes, answer: Answer
    ) -> ServerReply | None:
        """Take a mail. Returns the reply, or None when `answer` gets it, on a later turn."""
        if self._broker.blocked:
            return BLOCKED
        if transaction.parameters.body is not Body.BINARY_MIME and has_long_line(content):
            if not dialogue.rules.folds_long_lines:
                return LONG_LINE
            content = folded(content)
        inspected = inspect(content)
        refusal = _unfit(inspected, transaction)
        if refusal is not None:
            return refusal
        try:
            refusal = self._take(dialogue, transaction, inspected, answer)
        except Exception as error:
            _log_failure("", error)
            return TROUBLE
        if refusal is not None:
            return refusal
        self._pending += 1
        self._idle.clear()
        return None

    def _take(
        self, dialogue: Dialogue, transaction: Transaction, inspected: Inspected, answer: Answer
    ) -> ServerReply | None:
        now = self._clock()
        identity = mail_id(int(now * 1000), self._entropy(10))
        span = None
        if self._tracing is not None:
            span = self._tracing.begin(dialogue, transaction, inspected.content, now)
        if dialogue.user is not None:
            path, user = transaction.reverse_path.address, dialogue.user
            bound = user.senders is not None
            submission = Submission(
                identity, dialogue.rules.hostname, now, path, user.may_send_as, bound
            )
            prepared = prepare(inspected.content, submission)
            if isinstance(prepared, ServerReply):
                return prepared
            inspected = inspected._replace(content=prepared)
        hop = _hop(dialogue, transaction)
        content = received_line(hop, identity, now) + inspected.content
        large = len(content) > self._inline_max_bytes
        stored = (
            Content(len(content), blob=blob_name(identity))
            if large
            else Content(len(content), memoryview(content))
        )
        mail = _mail(identity, now, dialogue, transaction, inspected=inspected, stored=stored)
        events = of_mail(mail, dialogue.tls) if self._emitter.concerns(mail.tenant) else ()
        if span is not None and self._tracing is not None:
            mail = replace(mail, traceparent=span.traceparent)
            answer = self._tracing.answering(span, transaction, mail, answer)
        if large:
            self._start(self._store_and_publish(mail, events, content, answer))
        else:
            self._publish(mail, events, answer)
        return None

    async def _store_and_publish(
        self, mail: AcceptedMail, events: Sequence[MailEvent], content: bytes, answer: Answer
    ) -> None:
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                # custody: the content is durable before a message names it.
                await self._store.put(mail.content.blob, content)
            self._publish(mail, events, answer)
        except Exception as error:
            self._failed(mail.id, answer, error)

    def _publish(self, mail: AcceptedMail, events: Sequence[MailEvent], answer: Answer) -> None:
        confirm = self._broker.publish(Outgoing(ACCEPTED, encode(mail), mail.id))
        if owed := self._emitter.owed(events):
            # custody: events that are owed are durable, too, before 250 is said.
            others = [self._broker.publish(event) for event in owed]
            confirm = asyncio.ensure_future(_together(confirm, others))
        confirm.add_done_callback(partial(self._confirmed, mail, events, answer))

    def _confirmed(
        self,
        mail: AcceptedMail,
        events: Sequence[MailEvent],
        answer: Answer,
        confirm: asyncio.Future[None],
    ) -> None:
        error = asyncio.CancelledError() if confirm.cancelled() else confirm.exception()
        if error is not None:
            self._forget_content(mail, error)
            self._failed(mail.id, answer, error)
            return
        _count_accepted()
        _count_octets(mail.content.size)
        recipients = tuple([recipient.address for recipient in mail.recipients])
        accepted = Event("accepted", mail.accepted_at, mail.id, recipients=recipients)
        if mail.traceparent:
            accepted = replace(accepted, trace_id=mail.trace_id)
        log_event(accepted)
        if events:
            self._emitter.emit(events)
        # custody: the broker has the mail, for every recipient, in one durable message.
        self._end(answer, queued(mail.id))

    def _failed(self, identity: str, answer: Answer, error: BaseException) -> None:
        _log_failure(identity, error)
        self._end(answer, TROUBLE)

    def _end(self, answer: Answer, reply: ServerReply) -> None:
        self._pending -= 1
        if not self._pending:
            self._idle.set()
        answer(reply)

    def _forget_content(self, mail: AcceptedMail, error: BaseException) -> None:
        """Remove a blob that no message can name. After `Unavailable` one may: it stays."""
        if mail.content.blob and isinstance(error, (Refused, Unroutable)):
            self._start(self._remove(mail))

    async def _remove(self, mail: AcceptedMail) -> None:
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                await self._store.end_share(mail.content.blob, Fraction(1), mail.id)
        except (ContentUnavailable, TimeoutError) as error:
            get_logger().warning("blob left behind", blob=mail.content.blob, error=repr(error))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _together(mail: asyncio.Future[None], events: Sequence[asyncio.Future[None]]) -> None:
    """Ends when all are stored. Raises what the publish of the mail raised, and `Unavailable`.

    The latter where only an event is missing: then the mail is perhaps there, and names its blob.
    """
    outcomes = await asyncio.gather(mail, *events, return_exceptions=True)
    if isinstance(outcomes[0], BaseException):
        raise outcomes[0]
    for error in outcomes[1:]:
        if isinstance(error, BaseException):
            raise Unavailable(f"an event was not stored: {error!r}")


def _unfit(inspected: Inspected, transaction: Transaction) -> ServerReply | None:
    if inspected.looping:
        return MAIL_LOOP
    is_binary = transaction.parameters.body is Body.BINARY_MIME
    return NUL_IN_CONTENT if not is_binary and b"\0" in inspected.content else None


def _log_failure(identity: str, error: BaseException) -> None:
    get_logger().error("not accepted", mail_id=identity, error=clip(repr(error)))


def _hop(dialogue: Dialogue, transaction: Transaction) -> Hop:
    return Hop(
        client_name=dialogue.client_name,
        client_address=dialogue.address,
        hostname=dialogue.rules.hostname,
        protocol=protocol(
            dialogue.extended,
            transaction.parameters.smtputf8,
            dialogue.secured,
            dialogue.user is not None,
        ),
        tls=dialogue.tls,
    )


def _mail(
    identity: str,
    now: float,
    dialogue: Dialogue,
    transaction: Transaction,
    *,
    inspected: Inspected,
    stored: Content,
) -> AcceptedMail:
    rules, user = dialogue.rules, dialogue.user
    parameters = transaction.parameters
    reverse_path = transaction.reverse_path.address
    addresses = [
        path.address if path.domain else f"{path.local_part}@{rules.hostname}"
        for path in transaction.recipients
    ]
    recipients = dict(zip(addresses, map(Recipient, addresses), strict=True))
    if transaction.wishes:
        recipients = _with_wishes(addresses, transaction.wishes)
    eight_bit = not inspected.content.isascii()
    # A client may ask for SMTPUTF8 without need; then any next hop will do (RFC 6531, 3.6).
    ascii_only = not eight_bit and reverse_path.isascii() and all(map(str.isascii, addresses))
    return AcceptedMail(
        id=identity,
        accepted_at=now,
        reverse_path=reverse_path,
        recipients=tuple(recipients.values()),
        content=stored,
        tenant=user.tenant if user else rules.tenant,
        message_class=inspected.message_class
        or (dialogue.trusted and class_of(parameters.priority))
        or (user and user.message_class)
        or rules.message_class,
        eight_bit=eight_bit,
        binary=parameters.body is Body.BINARY_MIME,
        smtputf8=parameters.smtputf8 and not ascii_only,
        dsn=_dsn(transaction),
        deliver_by=None if parameters.by is None else _deliver_by(parameters.by, now),
        require_tls=parameters.require_tls,
        schema=_schema(parameters),
    )


def _schema(parameters: MailParameters) -> int:
    if parameters.require_tls:
        return SECRET
    demanding = parameters.by is not None or parameters.body is Body.BINARY_MIME
    return DEMANDING if demanding else PLAIN


def _with_wishes(
    addresses: Sequence[str], wishes: Mapping[int, RecipientParameters]
) -> dict[str, Recipient]:
    """Each address once, with what all its RCPTs asked for."""
    asked: dict[str, list[RecipientParameters]] = {}
    for number, address in enumerate(addresses):
        asked.setdefault(address, []).append(wishes.get(number, NO_RECIPIENT_PARAMETERS))
    return {
        address: Recipient(
            address,
            merged(each.notify for each in those),
            next((each.orcpt for each in those if each.orcpt), ""),
        )
        for address, those in asked.items()
    }


def _deliver_by(by: By, now: float) -> DeliverBy:
    # With a time that is over already, somebody before us has told the sender of the delay.
    told = by.seconds <= 0
    return DeliverBy(now + by.seconds, by.returns, by.traced, told)


def _dsn(transaction: Transaction) -> DsnWishes | None:
    parameters = transaction.parameters
    if not (transaction.wishes or parameters.envid or parameters.ret):
        return None
    return DsnWishes(parameters.ret, parameters.envid)
