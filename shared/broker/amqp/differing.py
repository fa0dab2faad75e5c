"""How a queue that exists differs from what we declare, and whether we may use it as it is.

AMQP tells of one argument a time, in the text that refuses a declaration. So the queue is declared
again with what was told, until the broker agrees: that changes nothing, and lists all arguments.
Everything here blocks and is called on a thread.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from amqp.exceptions import PreconditionFailed

from shared.broker.migration import Difference
from shared.broker.topology import Queue, amqp_arguments
from shared.logs import get_logger

HARMLESS = frozenset(
    {
        "x-delivery-limit",
        "x-max-in-memory-bytes",
        "x-max-in-memory-length",
        "x-queue-leader-locator",
        "x-quorum-initial-group-size",
        "x-single-active-consumer",
    }
)
"""Arguments that endanger no mail, whatever they are: the queue is used as it is until it is
migrated. With all others mail might be lost, dropped or sent elsewhere."""

NONE = "none"
_REFUSAL = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for queue .*: "
    r"received (?P<wanted>.+?) but current is (?P<found>.+)$",
    re.DOTALL,
)
_VALUE = re.compile(r"the value '(?P<value>.*)' of type '(?P<type>\w+)'$", re.DOTALL)
_MOST_ARGUMENTS = 30


class DifferingError(ConnectionError):
    """A queue has other arguments, with which mail is not safe: nothing is published to any."""


def differences(connection: Any, queue: Queue) -> list[Difference]:
    """All arguments in which the queue that is there differs; none for a queue as it should be.

    A queue that is not there is declared.
    """
    arguments: dict[str, Any] = dict(amqp_arguments(queue))
    found: list[Difference] = []
    channel = connection.channel()
    for _ in range(_MOST_ARGUMENTS):
        try:
            channel.queue_declare(queue.name, durable=True, auto_delete=False, arguments=arguments)
        except PreconditionFailed as error:
            # py-amqp opens the channel again by itself.
            told = read(queue, str(error.reply_text))
            found.append(told)
            if not _adopt(arguments, told):
                break
        else:
            break
    channel.close()
    return found


def read(queue: Queue, refusal: str) -> Difference:
    """What the broker's refusal tells."""
    match = _REFUSAL.search(refusal)
    if match is None:
        return Difference(queue.name, "declaration", "accepted", refusal, harmless=False)
    name = match["name"]
    # At its limit a message that nothing takes up is dropped.
    dropping = name == "x-delivery-limit" and queue.dead_letter_to is None
    harmless = name in HARMLESS and not dropping
    return Difference(queue.name, name, _plain(match["wanted"]), _plain(match["found"]), harmless)


def _plain(told: str) -> str:
    match = _VALUE.match(told)
    return told.strip("'") if match is None else match["value"]


def _adopt(arguments: dict[str, Any], told: Difference) -> bool:
    """Ask for what is there; False when that cannot be done."""
    if not told.argument.startswith("x-") or told.argument == "x-queue-type":
        return False
    if told.found == NONE:
        return arguments.pop(told.argument, None) is not None
    before, now = arguments.get(told.argument), _typed(told.found)
    arguments[told.argument] = now
    return bool(before != now)


def _typed(value: str) -> str | int | bool:
    if value in ("true", "false"):
        return value == "true"
    return int(value) if re.fullmatch(r"-?\d+", value) else value


def judge(found: Collection[Difference], told: Collection[Difference] = ()) -> None:
    """Log each difference that is not told yet.

    Raises `DifferingError` if one of them endangers mail.
    """
    harmful = [one for one in found if not one.harmless]
    for one in found:
        if one not in told:
            _tell(one)
    if harmful:
        raise DifferingError("; ".join(map(str, harmful)))


def _tell(one: Difference) -> None:
    what = {"queue": one.queue, "argument": one.argument, "wanted": one.wanted}
    what |= {"found": one.found, "run": "postroad queues --migrate"}
    if one.harmless:
        get_logger().warning("a queue has another argument, and is used as it is", **what)
    else:
        get_logger().error("a queue has another argument, and cannot be used", **what)
