"""From a delivery job in a queue to the end of our custody of it.

Every job ends in exactly one settlement: acknowledged, forwarded to what follows it, released or
parked. The content's share is given up only after that settlement is durable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from io import IncrementalNewlineDecoder
from typing import Any

import msgspec

from services.delivery.custody import Successors, reports_of, successors, told_to_wait
from services.delivery.decide import Decision, decide
from services.delivery.envelope import is_safe_envelope
from services.delivery.placing import Placing
from services.delivery.pool import Pool
from services.delivery.repeats import Key, Repeats, key_of
from services.delivery.report import Report
from services.delivery.telling import Events, Telling
from services.delivery.tracing import AttemptTracing
from services.delivery.waiting import AGAIN
from services.delivery.work import Work
from shared import metrics
from shared.broker.interface import Delivery, Outgoing, ParkReason
from shared.broker.topology import CROWD, DUE, WAIT_STEPS_MS
from shared.content.interface import ContentMissing, ContentStore, ContentUnavailable
from shared.events.emitter import Emitter, silent
from shared.events.model import MailEvent
from shared.events.parking import park
from shared.logs import get_logger, log_detail
from shared.mail.deadline import OVERDUE, is_overdue, wait_before
from shared.messages.codec import CodecError, decode, encode
from shared.messages.model import DeliveryJob, Event
from shared.messages.outcome import Deferred, Delivered, Failed, Outcome
from shared.plan.providers import provider_names
from shared.settings.model import Settings
from shared.smtp.replies import Reply

_STORE_DOWN = Deferred(Reply(451, "4.3.0", "The content store does not answer"), "store")
_OVERDUE = Failed(OVERDUE, "expired")
_MOVED_MS = 5_000
"""Until a job comes again that another plan brought here: one of the wait steps."""
_SAFE_NEWLINES = (None, "\r\n")
_given_back = {reason: metrics.given_back_jobs.labels(reason).inc for reason in metrics.GIVEN_BACK}
_came, _went = metrics.in_flight.inc, metrics.in_flight.dec
_crowd_grew = metrics.crowd_jobs.inc
_dsns = {action: metrics.dsns.labels(action).inc for action in metrics.DSN_ACTIONS}


def is_safe(content: bytes) -> bool:
    """Whether every CR and LF is part of a CRLF: a bare one can hide a second mail."""
    # What universal newlines note of line ends: one pass, a third of three counts.
    decoder = IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(content.decode("latin-1"), final=True)
    return decoder.newlines in _SAFE_NEWLINES


def _slowly(following: Successors) -> Successors:
    """The same, but the retry comes back the slow way."""
    messages = (
        replace(message, queue=CROWD) if message.queue == DUE else message
        for message in following.messages
    )
    return replace(following, messages=tuple(messages))


def _moved(job: DeliveryJob, reason: str, now: float) -> Event:
    return Event(
        kind="given_back",
        at=now,
        mail_id=job.mail_id,
        job_id=job.id,
        destination=job.destination,
        site=job.site,
        reason=reason,
        attempt=job.attempt,
        trace_id=job.trace_id,
    )


class Handling:
    """The owner of all work of this process (`services.delivery.work.Owner`)."""

    def __init__(
        self,
        settings: Settings,
        store: ContentStore,
        placing: Placing,
        clock: Callable[[], float] = time.time,
        *,
        emitter: Emitter | None = None,
        tracing: AttemptTracing | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._placing = placing
        self._clock = clock
        self._report = Report(provider_names(settings.providers), settings.metrics.domains)
        self._tracing = tracing
        self._emitter = emitter or silent()
        self._telling = Telling(self._emitter, time.monotonic)
        self._pool: Pool | None = None
        self._pending: set[asyncio.Future[None]] = set()
        self._held: dict[Key, Work] = {}
        self._repeats = Repeats()

    def attach(self, pool: Pool) -> None:
        """Where work goes; before the first delivery."""
        self._pool = pool

    def handle(self, delivery: Delivery) -> None:
        """The handler of the lane queues."""
        try:
            job = decode(delivery.body)
        except CodecError as error:
            self._park_unread(delivery, error.reason, str(error))
            return
        if not isinstance(job, DeliveryJob) or self._pool is None:
            self._park_unread(delivery, ParkReason.UNDECODABLE, "not a delivery job")
            return
        content = None if job.content.blob else bytes(job.content.inline)
        if not is_safe_envelope(job) or not (content is None or job.binary or is_safe(content)):
            lane = self._placing.partition(delivery.queue).lane
            self._park(delivery, job, lane, ParkReason.UNSAFE_CONTENT)
            return
        key = (job.id, job.attempt)
        if (held := self._held.get(key)) is not None:
            # The broker took the message back and gave it again: the newest delivery is the valid
            # one, and what is under way goes on.
            held.copies.append(held.delivery)
            held.delivery = delivery
            return
        work = Work(job, delivery, content, self._placing.partition(delivery.queue))
        if self._placing.is_again(delivery.queue):
            work.queue += AGAIN
        if job.turn:
            work.turn = job.turn - self._ahead()
        self._held[key] = work
        _came()
        if (outcomes := self._repeats.recall(job)) is not None:
            self._conclude(work, outcomes)
        elif job.deliver_by is not None and is_overdue(job.deliver_by, self._clock()):
            self._conclude(work, (_OVERDUE,) * len(job.recipients))
        elif self._placing.belongs(job, delivery.queue):
            self._pool.submit(work)
        else:
            self.give_back(work, _MOVED_MS, "moved")

    def held(self) -> Collection[Work]:
        """All work that has not ended."""
        return self._held.values()

    def _ahead(self) -> float:
        """How far the time of the world is ahead of the loop's."""
        return self._clock() - asyncio.get_running_loop().time()

    async def load(self, work: Work) -> bytes | None:
        """See `Owner.load`."""
        try:
            content = bytes(await self._store.get(work.job.content.blob))
        except ContentMissing as error:
            self._reject(work, ParkReason.CONTENT_MISSING, str(error))
            return None
        except ContentUnavailable:
            self.finish(work, (_STORE_DOWN,) * len(work.job.recipients))
            return None
        if not (work.job.binary or is_safe(content)):
            self._reject(work, ParkReason.UNSAFE_CONTENT)
            return None
        work.content = content
        return content

    def finish(self, work: Work, outcomes: tuple[Outcome, ...]) -> None:
        """See `Owner.finish`."""
        if self._tracing is not None and work.job.traceparent:
            self._tracing.attempted(work, outcomes)
        self._report.attempted(work.job, outcomes)
        self._repeats.remember(key_of(work.job), outcomes)
        self._conclude(work, outcomes, attempted=True)

    def delivered(self, work: Work, outcomes: tuple[Delivered, ...]) -> None:
        """See `Owner.delivered`."""
        job = work.job
        if job.tenant in self._emitter.guaranteed:
            self.finish(work, outcomes)  # its event is what comes next
            return
        self._repeats.keep((job.id, job.attempt), outcomes)
        # custody: the next hop answered 250 for every recipient.
        work.delivery.ack()
        self._let_go(work)
        now = self._clock()
        self._report.delivered(job, outcomes, now)
        if self._emitter.wanted:
            self._emitter.emit(self._telling.delivered(work, outcomes, now))
        if self._tracing is not None and job.traceparent:
            self._tracing.attempted(work, outcomes)
        if job.content.blob:
            self._end_share(job)

    def _conclude(
        self, work: Work, outcomes: tuple[Outcome, ...], *, attempted: bool = False
    ) -> None:
        now = self._clock()
        decision = decide(work.job, outcomes, now, self._settings.delivery)
        events: list[MailEvent] = []
        if self._emitter.concerns(work.job.tenant):
            if attempted:
                events += self._telling.attempted(work, outcomes, now)
            events += self._telling.decided(work, decision, now)
        if work.content is None and reports_of(work.job, decision):
            self._spawn(self._settle_unread(work, decision, now, events))
            return
        self._settle(work, decision, now, work.content or b"", events)

    async def _settle_unread(
        self, work: Work, decision: Decision, now: float, events: Events
    ) -> None:
        """The notification quotes the headers, so a large content that was never read is needed."""
        try:
            content = bytes(await self._store.get(work.job.content.blob))
        except (ContentMissing, ContentUnavailable) as error:
            get_logger().warning("notification without headers", cause=str(error))
            content = b""
        self._settle(work, decision, now, content, events)

    def _settle(
        self, work: Work, decision: Decision, now: float, content: bytes, events: Events
    ) -> None:
        work.content = None
        following = successors(
            work.job,
            work.delivery.queue,
            decision,
            content,
            now=now,
            hostname=self._settings.hostname,
        )
        if work.crowd:
            following = _slowly(following)
        if owed := self._emitter.owed(events):
            following = replace(following, messages=(*following.messages, *owed))

        def tell() -> None:
            self._report.decided(work.job, decision, now)
            self._emitter.emit(events)

        if following.messages:
            self._forward(work, following, tell)
            return
        # custody: the next hop answered 250 for every recipient, or is believed to have.
        work.delivery.ack()
        self._let_go(work)
        tell()
        self._end_share(work.job)

    def _forward(self, work: Work, following: Successors, tell: Callable[[], None]) -> None:
        # custody: retry, notification, parked job and events that are owed are durable before this
        # job is settled.
        delivery = work.delivery
        future = delivery.forward(following.messages, lasting=following.ended)
        self._track(future)

        def moved(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._let_go(work)
                tell()
                self._count(following)
                self._report.followed(work.job, following, self._clock())
                if work.crowd:
                    _crowd_grew()
                if following.ended:
                    self._end_share(work.job)
            elif work.delivery is not delivery:
                self._forward(work, following, tell)  # it came again meanwhile
            else:
                self._let_go(work, settled=False)  # it will come again

        future.add_done_callback(moved)

    def _count(self, following: Successors) -> None:
        for action in following.told:
            _dsns[action]()
        for reason in following.parked:
            metrics.parked_messages.labels(reason.value).inc()

    def _let_go(self, work: Work, *, settled: bool = True) -> None:
        """The work is over."""
        self._held.pop(key_of(work.job), None)
        self._end_copies(work, settled=settled)

    def _end_copies(self, work: Work, *, settled: bool) -> None:
        """With the work its copies are over, each of which may be a message of its own."""
        _went()
        for copy in work.copies:
            if settled:
                copy.ack()
            else:
                copy.release()

    def _end_share(self, job: DeliveryJob) -> None:
        if job.content.blob:
            self._spawn(self._give_up_content(job))

    async def _give_up_content(self, job: DeliveryJob) -> None:
        try:
            await self._store.end_share(job.content.blob, job.blob_share, job.id)
        except ContentUnavailable as error:
            get_logger().warning("content was not given up", job_id=job.id, cause=str(error))

    def give_back(self, work: Work, delay_ms: int, reason: str) -> None:
        """See `Owner.give_back`."""
        job, now = work.job, self._clock()
        if job.deliver_by is not None and job.deliver_by.returns:
            delay_ms = wait_before(job.deliver_by, delay_ms, now, WAIT_STEPS_MS)
        turn = work.turn and work.turn + self._ahead()
        waiting, notice = told_to_wait(
            job,
            work.content or b"",
            now=now,
            hostname=self._settings.hostname,
            settings=self._settings.delivery,
        )
        body = encode(msgspec.structs.replace(waiting, turn=turn))
        events = self._telling.throttled(work, delay_ms, reason, now)
        # custody: the job waits in its step, durably, before it is settled here.
        due = CROWD if work.crowd else DUE
        later = Outgoing(due, body, job.id, delay_ms=delay_ms)
        messages = [later, *notice.messages, *self._emitter.owed(events)]
        future = work.delivery.forward(messages, lasting=False)
        self._track(future)
        # At once: it may come again before the broker's confirm of this has been seen.
        self._held.pop(key_of(job), None)
        work.content = None

        def moved(done: asyncio.Future[None]) -> None:
            settled = not done.cancelled() and done.exception() is None
            self._end_copies(work, settled=settled)
            if settled:
                _given_back[reason]()
                log_detail(_moved(job, reason, self._clock()))
                self._count(notice)
                self._report.followed(job, notice, self._clock())
                self._emitter.emit(events)
                if work.crowd:
                    _crowd_grew()

        future.add_done_callback(moved)

    def release(self, work: Work) -> None:
        """See `Owner.release`."""
        work.delivery.release()
        self._let_go(work)

    def broken(self, work: Work) -> None:
        """See `Owner.broken`."""
        work.delivery.failed()
        self._let_go(work)

    def _reject(self, work: Work, reason: ParkReason, detail: str = "") -> None:
        self._park(work.delivery, work.job, work.partition.lane, reason, detail)
        self._let_go(work)

    def _park(
        self, delivery: Delivery, job: DeliveryJob, lane: str, reason: ParkReason, detail: str = ""
    ) -> None:
        now = self._clock()
        events = self._telling.parked(job, lane, reason, detail, now)
        self._track(park(delivery, reason, detail, self._emitter, events, now=now, job=job))

    def _park_unread(self, delivery: Delivery, reason: ParkReason, detail: str) -> None:
        self._track(park(delivery, reason, detail, self._emitter, now=self._clock()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._track(asyncio.get_running_loop().create_task(work))

    def _track(self, future: asyncio.Future[None]) -> None:
        self._pending.add(future)
        future.add_done_callback(self._over)

    def _over(self, future: asyncio.Future[None]) -> None:
        self._pending.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            get_logger().warning("custody did not move", cause=str(error))

    async def settled(self) -> None:
        """Return when every settlement that began is over."""
        while self._pending:
            await asyncio.wait(self._pending)
