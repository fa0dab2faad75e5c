"""The accounting of a fault test: lost = A - (D u Q u N u P), unexpected = D - sent, duplicates.

Every recipient address is used once in a run, so an address identifies a mail at a recipient.
A accepted with 250, D delivered, Q queued, N notified by a DSN, P parked. Tests account when the
queues have run dry, and no honest mail may be parked: Q and P excuse nothing here. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.demo.script import Received

_FINAL_RECIPIENT = re.compile(rb"(?im)^Final-Recipient:\s*rfc822;\s*(\S+?)\r?$")


@dataclass
class Ledger:
    """What the sending side knows."""

    tries: Counter[str] = field(default_factory=Counter)
    """How often each recipient was in a transaction whose final dot was sent."""
    accepted: set[str] = field(default_factory=set)
    """A: recipients of transactions that were answered 250 after the final dot."""

    def tried(self, recipients: Iterable[str]) -> None:
        """A transaction is about to be sent."""
        self.tries.update(recipients)

    def took(self, recipients: Iterable[str]) -> None:
        """A transaction was answered 250."""
        self.accepted.update(recipients)


@dataclass(frozen=True)
class Account:
    """What became of the recipients of one ledger."""

    ledger: Ledger
    delivered: Counter[str]
    notified: Counter[str]
    unexpected: frozenset[str]

    @property
    def lost(self) -> set[str]:
        """Recipients we promised to care for and of which nothing is known."""
        return self.ledger.accepted - self.delivered.keys() - self.notified.keys()

    def most_copies(self) -> int:
        """The most often that one recipient got the mail or was reported."""
        return max((self.delivered | self.notified).values(), default=0)

    def duplicates(self) -> dict[str, int]:
        """Copies beyond the first, by recipient."""
        counts = self.delivered | self.notified
        return {recipient: n - 1 for recipient, n in counts.items() if n > 1}


def account(ledger: Ledger, received: Iterable[Received]) -> Account:
    """Hold what receivers got, DSNs among it, against the ledger.

    Mail to recipients that were never sent to is `unexpected`.
    """
    delivered: Counter[str] = Counter()
    notified: Counter[str] = Counter()
    for message in received:
        if message.reverse_path == "":
            notified.update(final_recipients(message))
        else:
            delivered.update(message.recipients)
    known = ledger.tries.keys()
    unexpected = frozenset((delivered.keys() | notified.keys()) - known)
    return Account(ledger, delivered, notified, unexpected)


def final_recipients(dsn: Received) -> list[str]:
    """The recipients that a DSN reports."""
    return [match.decode() for match in _FINAL_RECIPIENT.findall(dsn.content)]
