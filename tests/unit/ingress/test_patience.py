"""Transactions that never end, contents that drip."""

from __future__ import annotations

from dataclasses import dataclass

from services.ingress.patience import GRACE, Patience, PatienceLimits
from shared.smtp.server_replies import TOO_LONG_A_TRANSACTION, TOO_SLOW


@dataclass
class Content:
    received: int = 0


def test_a_transaction_has_its_time_and_the_next_one_has_its_own() -> None:
    patience, first, second = Patience(PatienceLimits(transaction=60.0)), object(), object()
    assert not patience.overdue(0.0, first, None)
    assert not patience.overdue(60.0, first, None)
    assert not patience.overdue(61.0, second, None)
    assert not patience.overdue(1000.0, None, None)
    assert not patience.overdue(1001.0, second, None)
    assert patience.overdue(1062.0, second, None) is TOO_LONG_A_TRANSACTION


def test_a_content_must_come_at_its_rate_after_a_while() -> None:
    patience, content = Patience(PatienceLimits(rate=100.0)), Content()
    assert not patience.overdue(0.0, None, content)
    assert not patience.overdue(GRACE, None, content)
    content.received = 6000
    assert not patience.overdue(60.0, None, content)
    assert patience.overdue(60.5, None, content) is TOO_SLOW
    assert not patience.overdue(61.0, None, Content())


def test_nobody_is_hurried_without_limits() -> None:
    patience, content = Patience(PatienceLimits()), Content()
    patience.overdue(0.0, content, content)
    assert not patience.overdue(1e9, content, content)
