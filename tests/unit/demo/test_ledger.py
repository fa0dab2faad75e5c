from __future__ import annotations

from services.demo.ledger import Ledger
from services.demo.plan import Planned
from services.demo.reports import Arrived, Bounced
from shared.messages.model import AcceptedMail, Content, DeliveryJob, Event, Recipient

DSN = (
    b"MIME-Version: 1.0\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n"
    b"\r\nFinal-Recipient: rfc822; nobody@refuses.test\r\nAction: failed\r\n"
)
FIRST = Planned("run-0", ("a@fast.test", "nobody@refuses.test"), 1000)
SECOND = Planned("run-1", ("b@fast.test",), 1000)


def ledger() -> Ledger:
    found = Ledger([FIRST, SECOND])
    found.accept(FIRST, "Q1", 10.0, 0.1)
    found.accept(SECOND, "Q2", 11.0, 0.1)
    return found


def test_it_is_settled_when_each_recipient_was_heard_of() -> None:
    found = ledger()
    assert (found.submitted, found.recipients) == (2, 3)
    found.hear(Arrived("run-0", ("a@fast.test",), (), 12.0, True))
    found.hear(Bounced("run-0", ("nobody@refuses.test",)))
    assert (found.settled, found.all_settled) == (2, False)
    found.hear(Arrived("run-1", ("b@fast.test",), ("b@fast.test",), 13.0, True))
    assert found.all_settled
    assert found.account().good
    assert found.account().deferred_first == 1
    assert found.speeds().delivered_late is not None


def test_mail_of_other_runs_is_ignored() -> None:
    found = ledger()
    found.hear(Arrived("old-0", ("a@fast.test",), (), 12.0, True))
    found.hear(Arrived("", ("a@fast.test",), (), 12.0, True))
    found.hear(Bounced("old-1", ("nobody@refuses.test",)))
    assert found.settled == 0
    assert found.account().unexpected == ()


def job(mail_id: str, reverse_path: str, *recipients: str, content: bytes = b"") -> DeliveryJob:
    return DeliveryJob(
        id="J",
        mail_id=mail_id,
        accepted_at=1.0,
        reverse_path=reverse_path,
        recipients=tuple(map(Recipient, recipients)),
        content=Content(len(content), memoryview(content)),
        destination="x",
        exchangers=(),
    )


def test_a_parked_job_is_known_by_the_id_in_the_reply() -> None:
    found = ledger()
    found.park(job("Q2", "run-1@sender.test", "b@fast.test"))
    found.park(job("Q9", "old-1@sender.test", "b@fast.test"))
    assert found.account().parked == found.settled == 1
    assert ("run-1", "b@fast.test") not in found.account().lost


def test_parked_mail_that_was_never_routed_parks_all_its_recipients() -> None:
    found = ledger()
    recipients = tuple(map(Recipient, FIRST.recipients))
    found.park(AcceptedMail("Q1", 1.0, FIRST.reverse_path, recipients, Content(0)))
    assert found.account().parked == 2


def test_a_parked_dsn_parks_those_it_tells_of() -> None:
    found = ledger()
    found.park(job("D1", "", "run-0@sender.test", content=DSN))
    found.park(job("D2", "", "old-0@sender.test", content=DSN))
    found.park(Event(kind="parked", at=1.0, mail_id="Q1"))
    assert found.account().parked == 1
    assert ("run-0", "nobody@refuses.test") not in found.account().lost
