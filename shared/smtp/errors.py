"""The client's faults: each carries the reply that answers it."""

from __future__ import annotations

from shared.smtp.server_replies import ServerReply


class ProtocolError(Exception):
    """What was received does not follow the protocol; `reply` says so to the peer."""

    def __init__(self, reply: ServerReply) -> None:
        super().__init__(str(reply))
        self.reply = reply
