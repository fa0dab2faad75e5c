"""The events of what the router did with one message, for whoever follows (pure)."""

from __future__ import annotations

from services.router.splitting import Split
from shared.broker.interface import ParkReason
from shared.events.make import alike, of_job
from shared.events.model import MailEvent
from shared.mail.notify import wants
from shared.messages.ids import job_id
from shared.messages.model import DeliveryJob
from shared.plan.lanes import LanePlan
from shared.smtp.parameters import Notify


def nobody(_tenant: str) -> bool:
    """No events are wanted."""
    return False


def dsn_id(parent: DeliveryJob) -> str:
    """Of a notification by the router."""
    # Delivery may notify of the same attempt of the same job: never under the same id.
    return job_id(parent.id, "dsn of the router", parent.attempt)


def told_of(parent: DeliveryJob, parts: Split, lanes: LanePlan, now: float) -> list[MailEvent]:
    """Of its jobs, and of the recipients that were given up."""
    events: list[MailEvent] = []
    for job in parts.jobs:
        lane = lanes.place(job).lane
        events += of_job("routed", job, now, lane, attempt=job.attempt, part=int(job.turn))
    for kind, expired in (("bounced", False), ("expired", True)):
        for notified in (False, True):
            those = alike(
                (who, str(why.reply), why.reason)
                for who, why in parts.failures
                if (why.reason == "expired") is expired
                and (bool(parent.reverse_path) and wants(who, Notify.FAILURE)) is notified
            )
            for (reply, reason), recipients in those.items():
                events += of_job(
                    kind, parent, now, "", recipients,
                    attempt=parent.attempt, reply=reply, reason=reason,
                    notification=dsn_id(parent) if notified else "", part=len(events),
                )  # fmt: skip
    if parts.parked is not None:
        reason = ParkReason.DSN_FAILED.value
        events += of_job("parked", parts.parked, now, "", attempt=parent.attempt, reason=reason)
    return events


def deferred(
    job: DeliveryJob, reply: str, reason: str, delay_ms: int, now: float
) -> list[MailEvent]:
    """That it waits, since the way of the job is not known now."""
    seconds = delay_ms / 1000
    # While the content store is down no attempt is counted: only the time tells one from the next.
    part = int(now) if reason == "store" else 0
    return of_job(
        "deferred", job, now, "",
        attempt=job.attempt, reply=reply, reason=reason, delay_seconds=seconds, part=part,
    )  # fmt: skip


def parked(job: DeliveryJob, reason: ParkReason, detail: str, now: float) -> list[MailEvent]:
    """That the message as a whole was parked."""
    return of_job("parked", job, now, "", attempt=job.attempt, reply=detail, reason=reason.value)
