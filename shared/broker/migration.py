"""Queues whose arguments differ from the topology, and what makes them as they should be.

Arguments are RabbitMQ's; the embedded broker has none. `shared.broker.amqp.migrating` tells how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.broker.topology import Queue

Say = Callable[[str], None]
"""Is told, line by line, what happens."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One argument: `wanted` by this configuration, `found` at the broker.

    `harmless`: it endangers no mail, so the queue is used as it is until it is migrated.
    """

    queue: str
    argument: str
    wanted: str
    found: str
    harmless: bool

    def __str__(self) -> str:
        found, wanted = self.found or "empty", self.wanted or "empty"
        return f"{self.queue}: {self.argument} is {found}, wanted is {wanted}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A queue that is not as it should be: it differs, or a migration of it was not finished."""

    queue: Queue
    differences: Sequence[Difference]
    unfinished: bool


class MigrationError(Exception):
    """It did not come to its end. Nothing is lost, and the same call goes on where it was."""


class Migration(Protocol):
    """Looks, and migrates. Both block, and raise `MigrationError`."""

    def look(self) -> Sequence[Finding]:
        """What is not as it should be, of the queues that are there. Changes nothing."""

    def migrate(self, say: Say) -> None:
        """Make all queues as they should be; services stay away meanwhile."""
