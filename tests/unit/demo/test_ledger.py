from __future__ import annotations

from services.demo.ledger import Ledger
from services.demo.plan import Planned
from services.demo.reports import Arrived, Bounced

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


def test_parked_recipients_are_read_from_the_logs_by_the_id_in_the_reply() -> None:
    found = ledger()
    found.read_logs(
        [
            b'{"mail_id":"Q2","recipients":["b@fast.test"],"event":"parked","level":"info"}',
            b'{"mail_id":"Q9","recipients":["b@fast.test"],"event":"parked"}',
            b'{"mail_id":"Q1","recipients":["a@fast.test"],"event":"routed","x":"parked"}',
            b'Traceback "parked"',
        ]
    )
    assert found.account().parked == 1
    assert found.settled == 1
    assert ("run-1", "b@fast.test") not in found.account().lost
