"""The events of an attempt and of what was decided after it, for whoever follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from services.delivery.custody import reports_of, to_park
from services.delivery.decide import Decision
from services.delivery.work import Work
from shared.broker.interface import ParkReason
from shared.events.emitter import Emitter
from shared.events.make import Pair, alike, of_job
from shared.events.model import NO_TIME, Hop, MailEvent
from shared.messages.ids import job_id
from shared.messages.model import DeliveryJob, Recipient
from shared.messages.outcome import Delivered, Outcome
from shared.settings.sending import Uncertain
from shared.smtp.replies import Reply

Events = Sequence[MailEvent]


class Telling:
    """Makes events where they are wanted. `timer` gives monotonic seconds."""

    def __init__(self, emitter: Emitter, timer: Callable[[], float]) -> None:
        self.emitter = emitter
        self._timer = timer

    def delivered(self, work: Work, outcomes: Sequence[Delivered], now: float) -> Events:
        """One reply delivered to all recipients."""
        attempted = self._attempted(work, {"delivered": len(outcomes)}, now)
        job, reply = work.job, str(outcomes[0].reply)
        lane, hop = work.partition.lane, work.hop
        return attempted + of_job(
            "delivered", job, now, lane, attempt=job.attempt + 1, reply=reply, hop=hop
        )

    def attempted(self, work: Work, outcomes: Sequence[Outcome], now: float) -> list[MailEvent]:
        """That an attempt was made."""
        counts = Counter(type(outcome).__name__.lower() for outcome in outcomes)
        return self._attempted(work, dict(counts), now)

    def _attempted(self, work: Work, outcomes: dict[str, int], now: float) -> list[MailEvent]:
        job = work.job
        return of_job(
            "attempted",
            job,
            now,
            work.partition.lane,
            (),
            attempt=job.attempt + 1,
            hop=work.hop,
            outcomes=outcomes,
            attempt_seconds=self._took(work),
        )

    def _took(self, work: Work) -> float:
        began = work.walk.began
        return max(self._timer() - began, NO_TIME) if began else NO_TIME

    def decided(self, work: Work, decision: Decision, now: float) -> Events:
        """What became of each recipient."""
        return _decided(work.job, work.partition.lane, work.hop, decision, now)

    def throttled(self, work: Work, delay_ms: int, reason: str, now: float) -> Events:
        """That no attempt is made now."""
        job, lane = work.job, work.partition.lane
        if reason == "moved" or not self.emitter.concerns(job.tenant):
            return ()
        return of_job(
            "throttled", job, now, lane, (),
            attempt=job.attempt, reason=reason, delay_seconds=delay_ms / 1000, part=int(now),
        )  # fmt: skip

    def parked(
        self, job: DeliveryJob, lane: str, reason: ParkReason, detail: str, now: float
    ) -> Events:
        """That the job as a whole was parked."""
        if not self.emitter.concerns(job.tenant):
            return ()
        return of_job(
            "parked", job, now, lane, attempt=job.attempt, reply=detail, reason=reason.value
        )


def _decided(
    job: DeliveryJob, lane: str, hop: Hop | None, decision: Decision, now: float
) -> Events:
    told_of = {report.recipient.address for report in reports_of(job, decision)}
    dsn = job_id(job.id, "dsn", job.attempt)
    events: list[MailEvent] = []
    for fate in _fates(job, decision):
        part = 0
        for notification in ("", dsn):
            chosen = [
                one for one in fate.those if (one[0].address in told_of) is bool(notification)
            ]
            for (reply, reason), recipients in alike(chosen).items():
                made = of_job(
                    fate.kind, job, now, lane, recipients,
                    attempt=job.attempt + 1, reply=reply, reason=reason, hop=hop,
                    delay_seconds=fate.delay_seconds, notification=notification, part=part,
                )  # fmt: skip
                part += len(made)
                events += made
    return events


class _Fate(NamedTuple):
    kind: str
    those: Sequence[Pair]
    delay_seconds: float = NO_TIME


def _fates(job: DeliveryJob, decision: Decision) -> list[_Fate]:
    """What becomes of whom, in the order in which it is told."""
    delay, policy, cause = decision.delay_ms / 1000, decision.policy, decision.cause
    comes_again = policy is Uncertain.RETRY and decision.retry is not None
    failed = [(who, str(what.reply), what.reason) for who, what in decision.failed]
    parked = to_park(job, decision).items()
    return [
        _Fate("delivered", _pairs(decision.delivered)),
        _Fate(
            "uncertain",
            _pairs(decision.uncertain, policy.value),
            delay if comes_again else NO_TIME,
        ),
        _Fate("deferred", _pairs(decision.deferred, cause), delay),
        _Fate("bounced", [one for one in failed if one[2] != "expired"]),
        _Fate("expired", [one for one in failed if one[2] == "expired"]),
        _Fate("parked", [one for reason, those in parked for one in _pairs(those, reason.value)]),
    ]


def _pairs(those: Iterable[tuple[Recipient, Reply]], reason: str = "") -> list[Pair]:
    return [(who, str(reply), reason) for who, reply in those]
