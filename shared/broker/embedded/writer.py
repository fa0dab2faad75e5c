"""The one thread that writes: it collects what the loop hands over and commits it in groups.

While one commit waits for the disk, or for the lock of another process, the next batch grows. So
the groups are as large as the load asks for and nobody waits for a timer.

Trouble with the disk fails the publishes of the batch and nothing else: settlements and forwards
are kept and tried again, and the same attempts tell when the trouble is over.
"""

from __future__ import annotations

import asyncio
import os
import select
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from shared import metrics
from shared.broker.embedded.engine import Engine
from shared.broker.embedded.records import Batch, Outcome, Survey
from shared.broker.interface import PublishError, Refused, Unavailable
from shared.logs import get_logger

LOOK_SECONDS = 0.1
"""How often a consumer that waits looks for messages that came without a bell."""
HOUSE_SECONDS = 1.0
RETRY_SECONDS = 0.25
_WAKE_BYTES = 4096


class Writer:
    """Owns the engine once started. `hand_over` is called on the loop, all else on the thread."""

    def __init__(
        self,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        report: Callable[[Outcome], None],
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._clock = clock
        self._report = report
        self._inbox: deque[Batch] = deque()
        self._kept = Batch()
        self._asleep = False
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # epoll: a process may listen at hundreds of doorbells, and poll() looks at each.
        self._poll = select.epoll()
        self._poll.register(self._woken, select.EPOLLIN)
        self._house_at = 0.0
        self._look_at = 0.0
        self.trouble: PublishError | None = None
        """Why nothing can be stored now; read on the loop."""

    def start(self) -> None:
        """Run until a batch with a farewell; a killed process needs no other end."""
        threading.Thread(target=self._run, name="embedded-broker", daemon=True).start()

    def hand_over(self, batch: Batch) -> None:
        """Give the thread a batch that the caller no longer touches."""
        self._inbox.append(batch)
        if self._asleep:
            os.write(self._wake, b"!")

    def _run(self) -> None:
        farewell = None
        while farewell is None:
            self._sleep()
            farewell = self._turn()
        self._end(farewell)

    def _turn(self) -> asyncio.Future[None] | None:
        batch = self._collect()
        self._change_consumers(batch)
        if self.trouble is not None:
            self._recover(batch)
        elif batch.writes() or self._is_due():
            self._attempt(batch)
        for question in batch.questions:
            self._answer_question(question)
        self._guarded(self._look_around)
        return batch.farewell

    def _is_due(self) -> bool:
        return self._engine.subscriptions.wanting() or self._clock() >= self._engine.due

    def _collect(self) -> Batch:
        batch, self._kept = self._kept, Batch()
        while self._inbox:
            batch.absorb(self._inbox.popleft())
        return batch

    def _change_consumers(self, batch: Batch) -> None:
        for subscription in batch.joins:
            self._engine.join(subscription)
            self._guarded(partial(self._listen, subscription.queue))
        for leave in batch.leaves:
            self._guarded(partial(self._engine.leave, leave.subscription))
            self._call(_resolve, leave.done, None)
        if batch.joins or batch.leaves:
            self._guarded(self._engine.admit)

    def _listen(self, queue: str) -> None:
        if not self._engine.doorbells.listens(queue):
            self._poll.register(self._engine.doorbells.listen(queue), select.EPOLLIN)

    def _guarded(self, action: Callable[[], None]) -> bool:
        """Whether `action` succeeded. The thread outlives every error: it has mail to keep."""
        try:
            action()
        except Exception as error:
            self._in_trouble(error)
            return False
        return True

    def _attempt(self, batch: Batch) -> bool:
        if not self._guarded(partial(self._commit, batch)):
            self._keep(batch)
            return False
        return True

    def _commit(self, batch: Batch) -> None:
        outcome = self._engine.run(batch, self._clock())
        if not outcome.empty():
            self._tell(outcome)

    def _in_trouble(self, error: Exception) -> None:
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        kind = Refused if full else Unavailable
        if not isinstance(self.trouble, kind):
            get_logger().error("the embedded broker cannot write", error=repr(error))
        self.trouble = kind(str(error))
        metrics.broker_usable.set(0)

    def _keep(self, batch: Batch) -> None:
        kept, lost = batch.without_publishes()
        self._kept.absorb(kept)
        error = self.trouble or Unavailable()
        if lost:
            self._tell(Outcome(failed=[(post, error) for post in lost]))

    def _recover(self, batch: Batch) -> None:
        # Settlements first: they need little room and make some.
        small, large = batch.without_growth()
        reopened = isinstance(self.trouble, Refused) or self._guarded(self._engine.reopen)
        if not reopened:
            self._keep(batch)
        elif not self._attempt(small):
            self._keep(large)
        elif self._guarded(self._engine.probe) and self._attempt(large):
            metrics.broker_usable.set(1)
            self.trouble = None
            get_logger().info("the embedded broker writes again")
        else:
            self._keep(large)

    def _answer_question(self, question: asyncio.Future[Survey]) -> None:
        try:
            survey = self._engine.survey()
        except sqlite3.Error as error:
            self._call(_fail, question, Unavailable(str(error)))
        else:
            self._call(_resolve, question, survey)

    def _look_around(self) -> None:
        now = time.monotonic()
        if now >= self._house_at:
            self._house_at = now + HOUSE_SECONDS
            self._engine.keep_house()
        if now >= self._look_at and self._engine.subscriptions.expecting():
            self._look_at = now + LOOK_SECONDS
            self._engine.look_for_changes()

    def _sleep(self) -> None:
        self._asleep = True
        events = self._poll.poll(0 if self._inbox else self._patience())
        self._asleep = False
        for descriptor, _ in events:
            self._guarded(partial(self._answer, descriptor))

    def _patience(self) -> float:
        """Seconds until something has to be done unasked."""
        if self.trouble is not None:
            return RETRY_SECONDS
        if self._engine.subscriptions.wanting():
            return 0
        now = time.monotonic()
        waits = [self._house_at - now, self._engine.due - self._clock()]
        if self._engine.subscriptions.expecting():
            waits.append(self._look_at - now)
        return max(0.0, min(waits))

    def _answer(self, descriptor: int) -> None:
        if descriptor == self._woken:
            os.read(self._woken, _WAKE_BYTES)
            return
        self._engine.answer(descriptor)

    def _end(self, farewell: asyncio.Future[None]) -> None:
        self._guarded(self._engine.close)
        self._poll.close()
        for descriptor in (self._woken, self._wake):
            os.close(descriptor)
        error = Unavailable("the broker is closed")
        self._tell(Outcome(failed=[(post, error) for post in self._kept.posts]))
        for park in self._kept.parks:
            self._call(_fail, park.done, error)
        self._call(_resolve, farewell, None)

    def _tell(self, outcome: Outcome) -> None:
        self._call(self._report, outcome)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return  # the loop is closed: nobody waits for an answer


def _resolve(future: asyncio.Future[object], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
