"""The span of a mail's acceptance: from the first octet of its content to the reply."""

from __future__ import annotations

from collections.abc import Callable, Collection

from services.ingress.content import traceparent_of
from services.ingress.dialogue import Dialogue
from services.ingress.transaction import Transaction
from shared import metrics
from shared.broker.topology import ACCEPTED
from shared.messages.model import AcceptedMail
from shared.smtp.server_replies import ServerReply
from shared.tracing.traceparent import parse_traceparent
from shared.tracing.tracer import Kind, Span, Tracer

ALL_TENANTS = "*"

Answer = Callable[[ServerReply], None]


class AcceptTracing:
    """Begins spans. Clients of `trusted` tenants may name the trace of their mail."""

    def __init__(
        self, tracer: Tracer, trusted: Collection[str], clock: Callable[[], float]
    ) -> None:
        self._tracer = tracer
        self._trusted = frozenset(trusted)
        self.clock = clock

    def begin(
        self, dialogue: Dialogue, transaction: Transaction, content: bytes, now: float
    ) -> Span | None:
        """The span of a mail whose content, as the client sent it, has come now."""
        began = transaction.began or now
        parent = self._parent(dialogue, content)
        return self._tracer.begin("accept", Kind.SERVER, began, parent)

    def _parent(self, dialogue: Dialogue, content: bytes) -> str:
        tenant = dialogue.user.tenant if dialogue.user else dialogue.rules.tenant
        trusted = tenant in self._trusted or ALL_TENANTS in self._trusted
        if not (trusted and dialogue.trusted):
            return ""
        named = traceparent_of(content)
        return named if parse_traceparent(named) is not None else ""

    def answering(
        self, span: Span, transaction: Transaction, mail: AcceptedMail, answer: Answer
    ) -> Answer:
        """`answer`, and then the span ends."""

        def answer_and_end(reply: ServerReply) -> None:
            answer(reply)
            at = self.clock()
            span.end(at, _attributes(transaction, mail, reply), "" if reply.positive else "refused")
            if reply.positive and not mail.content.blob:
                # Since acceptance nothing has happened but the publish.
                metrics.publish_seconds.exemplify(at - mail.accepted_at, mail.trace_id, at)

        return answer_and_end


def _attributes(
    transaction: Transaction, mail: AcceptedMail, reply: ServerReply
) -> dict[str, str | int | float | bool]:
    return {
        "network.protocol.name": "smtp",
        "messaging.operation.type": "send",
        "messaging.destination.name": ACCEPTED,
        "messaging.message.id": mail.id,
        "messaging.message.body.size": mail.content.size,
        "postroad.mail_id": mail.id,
        "postroad.tenant": mail.tenant,
        "postroad.class": mail.message_class.value,
        "postroad.recipients": len(mail.recipients),
        "postroad.receive_seconds": mail.accepted_at - (transaction.began or mail.accepted_at),
        "postroad.reply.code": reply.code,
        "postroad.reply.enhanced": reply.enhanced,
    }
