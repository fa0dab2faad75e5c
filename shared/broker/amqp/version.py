"""What depends on the version of the RabbitMQ server."""

from __future__ import annotations

from typing import Any

Version = tuple[int, ...]

NACK_UNCOUNTED: Version = (4, 3)
"""From this version on, a nack that requeues does not count towards the delivery limit."""
RETRIES_GO_ON: Version = (3, 11, 12)
"""From this version on, or `RETRIES_GO_ON_3_10`, retries outlive two faults within 5 s.

Before, the second fault of the processes that lead on what has waited long enough ends all of them,
in every queue of the node, until RabbitMQ is restarted: the messages stay, and nobody sees them
(rabbitmq-server, commit 76db0b5; shown on 3.10.8).
"""
RETRIES_GO_ON_3_10: Version = (3, 10, 20)


def server_version(connection: Any) -> Version:
    """Of the server behind a connection of py-amqp; what is no number ends it."""
    text = connection.server_properties.get("version", "0.0")
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    return parse_version(text)


def parse_version(text: str) -> Version:
    """The numbers in front: `3.13.0-rc.1` is (3, 13, 0)."""
    parts: list[int] = []
    for part in text.partition("-")[0].split(".")[:3]:
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def may_forget_retries(version: Version) -> bool:
    """Whether two faults in this server stop every retry (`RETRIES_GO_ON`); not if unknown."""
    first = RETRIES_GO_ON_3_10 if version[:2] == (3, 10) else RETRIES_GO_ON
    return bool(version) and version < first
