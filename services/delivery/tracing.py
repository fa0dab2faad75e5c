"""The span of an attempt: from its first step, on whatever connection, to the outcomes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from services.delivery.work import Work
from shared.events.model import Hop
from shared.logs import get_logger
from shared.messages.outcome import Deferred, Delivered, Failed, Outcome
from shared.tracing.tracer import Kind, Tracer


class AttemptTracing:
    """Records attempts. `clock` gives epoch seconds, `timer` monotonic ones."""

    def __init__(
        self,
        tracer: Tracer,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracer = tracer
        self._clock = clock
        self._timer = timer

    def attempted(self, work: Work, outcomes: Sequence[Outcome]) -> None:
        """An attempt of a job whose trace is recorded is over."""
        try:
            self._record(work, outcomes)
        except Exception as error:  # the job is not settled yet, and shall be
            get_logger().warning("an attempt was not traced", job_id=work.job.id, error=repr(error))

    def _record(self, work: Work, outcomes: Sequence[Outcome]) -> None:
        now, began = self._clock(), work.walk.began
        # One that waited for another to find out that nobody answers has not begun itself.
        began = now - (self._timer() - began) if began else now
        span = self._tracer.begin("attempt", Kind.CLIENT, began, work.job.traceparent)
        if span is not None:
            attributes = _of_job(work) | _of_hop(work.hop) | _of_outcomes(outcomes)
            worst = _worst(outcomes)
            span.end(now, attributes, "" if isinstance(worst, Delivered) else _name(worst))

    async def close(self) -> None:
        """See `Tracer.close`."""
        await self._tracer.close()


def _of_job(work: Work) -> dict[str, str | int | float | bool]:
    job = work.job
    return {
        "messaging.operation.type": "process",
        "messaging.destination.name": work.delivery.queue,
        "messaging.message.id": job.id,
        "messaging.message.body.size": job.content.size,
        "postroad.mail_id": job.mail_id,
        "postroad.job_id": job.id,
        "postroad.attempt": job.attempt + 1,
        "postroad.destination": job.destination,
        "postroad.site": job.site,
        "postroad.provider": job.provider,
        "postroad.recipients": len(job.recipients),
    }


def _of_hop(hop: Hop | None) -> dict[str, str | int | float | bool]:
    """The host that answered last; nothing where none did."""
    if hop is None:
        return {}
    attributes: dict[str, str | int | float | bool] = {
        "network.protocol.name": "smtp",
        "network.peer.address": hop.address,
        "server.address": hop.host,
        "server.port": hop.port,
    }
    if hop.tls is not None:
        name, _, number = hop.tls.version.partition("v")
        attributes |= {
            "tls.protocol.name": name.lower(),
            "tls.protocol.version": number,
            "tls.cipher": hop.tls.cipher,
            "tls.resumed": hop.tls.resumed,
        }
    return attributes


def _of_outcomes(outcomes: Sequence[Outcome]) -> dict[str, str | int | float | bool]:
    worst = _worst(outcomes)
    counts = Counter(map(_name, outcomes))
    attributes: dict[str, str | int | float | bool] = {
        "postroad.outcome": _name(worst),
        "postroad.reply.code": worst.reply.code,
        "postroad.reply.enhanced": worst.reply.enhanced,
    }
    if isinstance(worst, Deferred | Failed):
        attributes["postroad.reason"] = worst.reason
    return attributes | {f"postroad.recipients.{name}": count for name, count in counts.items()}


def _worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The first that is not delivered, else the first."""
    return next((one for one in outcomes if not isinstance(one, Delivered)), outcomes[0])


def _name(outcome: Outcome) -> str:
    return type(outcome).__name__.lower()
