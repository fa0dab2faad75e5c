"""Collects during the run what `accounting` judges at its end."""

from __future__ import annotations

from collections.abc import Sequence

from services.demo.accounting import Accepted, Account, Arrival, Pair, Speeds, measure, settle
from services.demo.plan import Planned, must_bounce
from services.demo.reports import Arrived, Bounced, Report, failed_recipients
from shared.messages.codec import Message
from shared.messages.model import DeliveryJob, Event


class Ledger:
    """What was sent, accepted and heard of. Mail of earlier runs on the same broker is ignored."""

    def __init__(self, plan: Sequence[Planned]) -> None:
        # All ids of a run begin alike; those of other runs differ there.
        self._run = plan[0].demo_id.rpartition("-")[0] + "-"
        self._sent: dict[Pair, bool] = {
            (planned.demo_id, path): must_bounce(path)
            for planned in plan
            for path in planned.recipients
        }
        self._accepted: dict[str, Accepted] = {}
        self._demo_ids: dict[str, str] = {}
        self._arrivals: list[Arrival] = []
        self._bounces: list[Pair] = []
        self._parked: set[Pair] = set()
        self._settled: set[Pair] = set()

    @property
    def submitted(self) -> int:
        """Messages answered 250."""
        return len(self._accepted)

    @property
    def recipients(self) -> int:
        """Recipients of all planned messages."""
        return len(self._sent)

    @property
    def settled(self) -> int:
        """Recipients whose end is known."""
        return len(self._settled)

    @property
    def all_settled(self) -> bool:
        """Whether the end of every accepted recipient is known."""
        return all(
            (demo_id, path) in self._settled
            for demo_id, mail in self._accepted.items()
            for path in mail.recipients
        )

    def accept(self, planned: Planned, mail_id: str, at: float, latency: float) -> None:
        """A message was answered 250; `mail_id` is the id in the reply."""
        self._accepted[planned.demo_id] = Accepted(planned.recipients, at, latency)
        self._demo_ids[mail_id] = planned.demo_id

    def hear(self, report: Report) -> None:
        """A receiver reports."""
        if isinstance(report, Arrived) and self._ours(report.demo_id):
            for path in report.recipients:
                pair = (report.demo_id, path)
                deferred = path in report.deferred
                self._arrivals.append(Arrival(pair, report.at, deferred, report.intact))
                self._settled.add(pair)
        elif isinstance(report, Bounced) and self._ours(report.demo_id):
            pairs = [(report.demo_id, path) for path in report.recipients]
            self._bounces += pairs
            self._settled.update(pairs)

    def park(self, message: Message) -> None:
        """A message lies in the parking queue."""
        if isinstance(message, Event):
            return
        mail_id = message.mail_id if isinstance(message, DeliveryJob) else message.id
        demo_id = self._demo_ids.get(mail_id)
        paths = [recipient.address for recipient in message.recipients]
        if demo_id is None and message.reverse_path == "":
            # A DSN: what it tells of is parked with it.
            demo_id = paths[0].partition("@")[0]
            paths = list(failed_recipients(bytes(message.content.inline)))
        pairs = {(demo_id, path) for path in paths if demo_id and self._ours(demo_id)}
        self._parked |= pairs
        self._settled |= pairs

    def account(self) -> Account:
        """The account so far."""
        return settle(self._sent, self._accepted, self._arrivals, self._bounces, self._parked)

    def speeds(self) -> Speeds:
        """The speeds so far."""
        return measure(self._accepted, self._arrivals)

    def _ours(self, demo_id: str) -> bool:
        return demo_id.startswith(self._run)
