from __future__ import annotations

from services.demo.script import Received
from tests.support.accounting import Ledger, account


def received(reverse_path: str, recipients: tuple[str, ...], content: bytes = b"") -> Received:
    return Received(
        reverse_path, recipients, b"", content, 0, "", 0.0, connection=1, helo="h", tls=False
    )


def ledger(*accepted: str, tried: tuple[str, ...] = ()) -> Ledger:
    noted = Ledger()
    noted.tried((*accepted, *tried))
    noted.took(accepted)
    return noted


def test_a_recipient_of_whom_nothing_came_is_lost() -> None:
    result = account(ledger("a@x", "b@x"), [received("s@x", ("a@x",))])
    assert result.lost == {"b@x"}
    assert not result.unexpected
    assert not result.duplicates()


def test_a_recipient_named_by_a_notification_is_not_lost() -> None:
    report = b"Status: 5.1.1\r\nFinal-Recipient: rfc822; a@x\r\n\r\nFinal-Recipient: RFC822;b@x\r\n"
    result = account(ledger("a@x", "b@x"), [received("", ("s@x",), report)])
    assert not result.lost
    assert not result.unexpected
    assert result.notified == {"a@x": 1, "b@x": 1}


def test_a_recipient_that_was_tried_but_not_accepted_is_neither_lost_nor_unexpected() -> None:
    assert account(ledger(tried=("a@x",)), []).lost == set()
    assert account(ledger(tried=("a@x",)), [received("s@x", ("a@x",))]).unexpected == set()


def test_mail_to_somebody_never_written_to_is_unexpected() -> None:
    assert account(ledger("a@x"), [received("s@x", ("a@x", "evil@x"))]).unexpected == {"evil@x"}


def test_copies_are_counted_for_each_recipient() -> None:
    copies = [received("s@x", ("a@x", "b@x")), received("s@x", ("a@x",)), received("s@x", ("a@x",))]
    result = account(ledger("a@x", "b@x"), copies)
    assert (result.duplicates(), result.most_copies()) == ({"a@x": 2}, 3)
