"""Who uses the queues, and how somebody gets them for himself, to exchange one for another.

A quorum queue cannot be deleted on the condition that it is empty and unused (RabbitMQ refuses
`if-empty` and `if-unused`), and what is confirmed just before the deletion would be lost. So each
connection that publishes or consumes mail attends: it consumes from a queue in which there is
nothing. Whoever wants to be alone declares an exclusive queue, which turns away those who come, and
sends away those who are there; each of them ends its connection, so nothing of it is under way.
Those who come attend first, then look: either they see that they may not, or they are counted.

Everything here blocks and is called on a thread.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from amqp import spec
from amqp.basic_message import Message
from amqp.exceptions import NotFound, ResourceLocked

from shared.broker.migration import MigrationError

ATTENDANCE = "postroad.attendance"
"""The queue from which all consume who may publish, or hold mail."""
MIGRATION = "postroad.migration"
"""The exclusive queue of whoever is alone; it goes with his connection."""

WORD_LASTS_MS = 2_000
"""A word to leave that nobody heard goes by itself."""
LOOK_SECONDS = 0.25
QUIET_SECONDS = 1.0
"""How long nobody must attend before one is alone."""
GOING_SECONDS = 5.0
"""How long somebody may take to go who saw too late that he may not come."""


class MigratingError(ConnectionError):
    """The queues are somebody else's for the moment: try again later."""


def attend(connection: Any) -> None:
    """Attend for as long as the connection lasts.

    Raises `MigratingError`, now if somebody is alone, and later out of the reading of the
    connection when somebody wants to be.
    """
    look = connection.channel()
    _see_nobody_alone(look)  # who only comes in vain is not to be counted
    channel = connection.channel()
    arguments = {"x-queue-type": "quorum", "x-message-ttl": WORD_LASTS_MS}
    channel.queue_declare(ATTENDANCE, durable=True, auto_delete=False, arguments=arguments)
    channel.basic_consume(ATTENDANCE, no_ack=True, callback=_leave, on_cancel=_gone)
    _see_nobody_alone(look)
    look.close()


def _see_nobody_alone(channel: Any) -> None:
    try:
        channel.queue_declare(MIGRATION, passive=True)
    except NotFound:
        return  # py-amqp opens the channel again by itself
    except ResourceLocked:
        pass
    raise MigratingError("the queues are being migrated")


def _leave(_word: Any) -> None:
    raise MigratingError("the queues are to be migrated")


def _gone(_tag: str) -> None:
    raise ConnectionAbortedError(f"the queue {ATTENDANCE} is gone")


class Alone:
    """Nobody else of postroad publishes or holds mail, as long as `check` does not raise."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def others(self) -> int:
        """How many connections attend."""
        return int(self._channel.queue_declare(ATTENDANCE, passive=True).consumer_count)

    def check(self) -> None:
        """Raises `MigrationError` if somebody has come in spite of all, and stays."""
        until = time.monotonic() + GOING_SECONDS
        while others := self.others():
            if time.monotonic() > until:
                raise MigrationError(f"{others} connections of postroad have come meanwhile")
            time.sleep(LOOK_SECONDS)

    def send_away(self, patience: float) -> None:
        """Return when nobody has attended for a while. Raises `MigrationError`."""
        now = time.monotonic()
        until, empty_since = now + patience, now
        while now - empty_since < QUIET_SECONDS:
            if others := self.others():
                if now > until:
                    raise MigrationError(f"{others} connections of postroad do not leave")
                self._say(others)
                empty_since = now
            time.sleep(LOOK_SECONDS)
            now = time.monotonic()

    def _say(self, times: int) -> None:
        for _ in range(times):
            word = Message(b"leave", delivery_mode=2)
            self._channel.send_method(
                spec.Basic.Publish, "Bssbb", (0, "", ATTENDANCE, False, False), word
            )


@contextlib.contextmanager
def alone(connection: Any, patience: float) -> Iterator[Alone]:
    """Send everybody away, and keep away who comes, until the end of the block.

    Raises `MigrationError` when somebody is still there after `patience` seconds.
    """
    channel = connection.channel()
    arguments = {"x-queue-type": "quorum", "x-message-ttl": WORD_LASTS_MS}
    channel.queue_declare(ATTENDANCE, durable=True, auto_delete=False, arguments=arguments)
    try:
        channel.queue_declare(MIGRATION, exclusive=True, auto_delete=False)
    except ResourceLocked:
        raise MigrationError("another migration is under way") from None
    by_myself = Alone(channel)
    by_myself.send_away(patience)
    yield by_myself
    channel.queue_purge(ATTENDANCE)
    channel.queue_delete(MIGRATION)
    channel.close()
