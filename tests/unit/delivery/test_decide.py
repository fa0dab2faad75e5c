"""Every recipient of an attempt goes exactly one way on, whatever became of the others."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.custody import reports_of, successors
from services.delivery.decide import decide
from shared.broker.interface import ParkReason
from shared.broker.parking import REASON
from shared.broker.topology import ACCEPTED, DUE, PARKED
from shared.messages.codec import decode
from shared.messages.model import Content, DeliverBy, DeliveryJob, DsnWishes, Recipient
from shared.messages.outcome import Deferred, Delivered, Failed, Outcome, Unknown
from shared.settings.model import DeliverySettings
from shared.settings.sending import Uncertain
from shared.smtp.replies import Reply

OK = Delivered(Reply(250, "2.0.0", "ok"))
LATER = Deferred(Reply(450, "4.2.0", "later"))
NO = Failed(Reply(550, "5.1.1", "no"), "mailbox")
LOST = Unknown(Reply(421, "4.4.2", "lost"))
OUTCOMES = st.lists(st.sampled_from([OK, LATER, NO, LOST]), min_size=1, max_size=8)
POLICIES = st.sampled_from(list(Uncertain))
ENDS = 72 * 3600.0


def job(count: int, reverse_path: str = "s@a.test", attempt: int = 4) -> DeliveryJob:
    recipients = tuple(Recipient(f"r{number}@b.test") for number in range(count))
    content = Content(9, blob="B")
    return DeliveryJob(
        "J",
        "M",
        0.0,
        reverse_path,
        recipients,
        content,
        "b.test",
        (),
        share=3,
        attempt=attempt,
        tenant="bank",
    )


@given(OUTCOMES, POLICIES, st.booleans())
def test_a_recipient_is_done_retried_held_or_failed(
    outcomes: list[Delivered | Deferred | Failed | Unknown], policy: Uncertain, late: bool
) -> None:
    settings = DeliverySettings(uncertain=policy)
    now = ENDS + 1 if late else 1.0
    decision = decide(job(len(outcomes)), outcomes, now, settings)
    done = [who for who, _ in decision.delivered]
    failed = [who for who, _ in decision.failed]
    again = list(decision.retry.recipients) if decision.retry else []
    aside = [who for who, _ in decision.uncertain] if policy is not Uncertain.RETRY else []
    ways = done + failed + again + aside
    assert sorted(who.address for who in ways) == [f"r{n}@b.test" for n in range(len(outcomes))]
    assert len(decision.uncertain) == outcomes.count(LOST)
    assert not (late and again)


@given(OUTCOMES, POLICIES, st.sampled_from(["", "s@a.test"]))
def test_what_goes_on_holds_the_whole_share_of_the_content(
    outcomes: list[Delivered | Deferred | Failed | Unknown], policy: Uncertain, reverse_path: str
) -> None:
    one = job(len(outcomes), reverse_path)
    decision = decide(one, outcomes, 1.0, DeliverySettings(uncertain=policy))
    following = successors(one, "lane", decision, b"", now=1.0, hostname="mta.test")
    heirs = [
        heir
        for message in following.messages
        if message.queue != ACCEPTED and isinstance(heir := decode(message.body), DeliveryJob)
    ]
    assert following.ended == (not heirs)
    assert not heirs or sum(heir.blob_share for heir in heirs) == one.blob_share
    assert len({heir.id for heir in heirs}) == len(heirs)
    assert {message.queue for message in following.messages} <= {DUE, PARKED, ACCEPTED}


def test_only_those_of_whom_nothing_is_known_are_held() -> None:
    one = job(4)
    settings = DeliverySettings(uncertain_by_tenant={"bank": Uncertain.HOLD})
    decision = decide(one, (OK, LATER, NO, LOST), 1.0, settings)
    following = successors(one, "lane", decision, b"", now=1.0, hostname="mta.test")
    (parked,) = (message for message in following.messages if message.queue == PARKED)
    held = decode(parked.body)
    assert parked.headers[REASON] == "uncertain"
    assert isinstance(held, DeliveryJob)
    assert held.recipients == (Recipient("r3@b.test"),)
    assert following.parked == (ParkReason.UNCERTAIN,)


def test_the_cause_of_a_retry_is_that_of_the_first_recipient_who_is_tried_again() -> None:
    silent = Deferred(LATER.reply, "timeout")
    for outcomes, cause in (
        ((OK, silent, LATER), "timeout"),
        ((NO, LATER, silent), "other"),
        ((LOST, OK), "uncertain"),
        ((OK, NO), ""),
    ):
        assert decide(job(len(outcomes)), outcomes, 1.0, DeliverySettings()).cause == cause


def test_a_redelivered_job_holds_its_recipients_under_the_same_id() -> None:
    one, settings = job(1), DeliverySettings(uncertain=Uncertain.HOLD)
    decision = decide(one, (LOST,), 1.0, settings)
    first, second = (
        successors(one, "lane", decision, b"", now=now, hostname="mta.test").messages[0].message_id
        for now in (1.0, 2.0)
    )
    assert first == second != one.id


def wishing(
    notify: str, dsn: DsnWishes | None = None, reverse_path: str = "s@a.test"
) -> DeliveryJob:
    return msgspec.structs.replace(
        job(1, reverse_path), recipients=(Recipient("r@b.test", notify),), dsn=dsn or DsnWishes()
    )


def told(wish: DeliveryJob, outcome: Outcome, now: float = 1.0) -> list[tuple[str, str]]:
    """What the sender is told: action and status."""
    decision = decide(wish, [outcome], now, DeliverySettings())
    return [(one.action.value, one.reply.enhanced) for one in reports_of(wish, decision)]


def test_the_sender_is_told_what_he_asked_for_and_nothing_else() -> None:
    passed_on = Delivered(OK.reply, told=True)
    assert told(wishing("SUCCESS"), OK) == [("relayed", "2.0.0")]
    assert told(wishing("SUCCESS"), passed_on) == []
    assert told(wishing("FAILURE,DELAY"), OK) == told(wishing(""), OK) == []
    assert told(wishing(""), NO) == told(wishing("FAILURE"), NO) == [("failed", "5.1.1")]
    assert told(wishing("SUCCESS,DELAY"), NO) == told(wishing("NEVER"), NO) == []
    assert told(wishing("SUCCESS", reverse_path=""), OK) == []


def test_a_delay_is_told_once_and_late_enough() -> None:
    hours = 3600.0
    wish = wishing("DELAY")
    assert told(wish, LATER, 3.9 * hours) == []
    assert told(wish, LATER, 4 * hours) == [("delayed", "4.2.0")]
    assert told(wishing(""), LATER, 4 * hours) == told(wishing("FAILURE"), LATER, 5 * hours) == []
    decision = decide(wish, [LATER], 4 * hours, DeliverySettings())
    assert decision.until == ENDS
    assert decision.retry is not None
    assert told(decision.retry, LATER, 5 * hours) == []


def by(deadline: float, notify: str = "", **fields: bool) -> DeliveryJob:
    """A job of one recipient with a deadline."""
    recipients = (Recipient("r@b.test", notify),)
    deliver_by = DeliverBy(deadline, **fields)
    return msgspec.structs.replace(job(1, attempt=0), recipients=recipients, deliver_by=deliver_by)


def test_what_is_to_be_returned_is_tried_up_to_its_deadline_and_no_longer() -> None:
    one = by(100.0, returns=True)
    early = decide(one, [LATER], 39.0, DeliverySettings())
    assert early.retry is not None
    assert (early.delay_ms, early.retry.deliver_by) == (60_000, one.deliver_by)
    assert decide(one, [LATER], 60.0, DeliverySettings()).delay_ms == 30_000
    for outcome in (LATER, LOST):
        late = decide(one, [outcome], 100.0, DeliverySettings())
        assert (late.retry, late.deferred) == (None, ())
        assert late.failed[0][1].reason == "expired"
        assert told(one, outcome, 100.0) == [("failed", "5.4.7")]
    assert told(by(100.0, "NEVER", returns=True), LATER, 100.0) == []


def test_what_is_only_told_of_goes_on_after_its_deadline() -> None:
    one = by(100.0)
    assert told(one, LATER, 99.0) == []
    assert told(one, LATER, 100.0) == [("delayed", "4.2.0")]
    assert told(one, LOST, 100.0) == [("delayed", "4.4.2")]
    late = decide(one, [LATER], 100.0, DeliverySettings())
    assert late.retry is not None
    assert told(late.retry, LATER, 200.0) == []


def test_that_nobody_keeps_the_time_any_more_is_told_and_so_is_every_relay_of_a_trace() -> None:
    kept = Delivered(OK.reply, timed=True)
    relayed = [("relayed", "2.0.0")]
    assert told(by(100.0), OK) == told(by(100.0, "DELAY"), OK) == relayed
    assert told(by(100.0), kept) == told(by(100.0, "FAILURE"), OK) == []
    assert told(by(100.0, told=True), OK) == told(by(100.0, returns=True), kept) == []
    assert told(by(100.0, returns=True, traced=True), kept) == relayed
    assert told(by(100.0, traced=True), kept) == relayed
    assert told(by(100.0, "NEVER", traced=True), kept) == []


def test_who_wants_no_notification_gets_none_and_the_content_ends() -> None:
    wish = wishing("NEVER")
    following = successors(
        wish, "lane", decide(wish, [NO], 1.0, DeliverySettings()), b"", now=1.0, hostname="m.test"
    )
    assert (following.messages, following.ended) == ((), True)
