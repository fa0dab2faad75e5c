"""What is told of the mail between the processes of one host: a datagram socket for each follower.

Where nobody follows there is no socket, and nothing is told. A follower that is too slow misses
datagrams, which are counted; nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from shared import metrics
from shared.broker.embedded.members import LONGEST_BYTES, Members, SocketListener
from shared.broker.interface import Follow, Told
from shared.events.codec import count_lines, matches

FRAMING_BYTES = 300
"""Of one body at most: its routing key, and what MessagePack adds."""
_missed = metrics.dropped_events.labels("follower").inc
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Told])


class SocketEvents:
    """See `shared.broker.interface.EventLine`."""

    def __init__(self, directory: Path) -> None:
        self._sockets = Members(directory)
        self._closed = False

    @property
    def followed(self) -> bool:
        """See `EventLine.followed`."""
        return not self._closed and self._sockets.heard

    @property
    def hearing(self) -> bool:
        """See `EventLine.hearing`."""
        return self._sockets.hearing

    def scatter(self, told: Sequence[Told]) -> bool:
        """See `EventLine.scatter`."""
        if self._closed:
            return False
        for portion in _portions(told):
            missed = self._sockets.announce(_encoder.encode(portion))
            if missed:
                _missed(missed * count_lines(portion))
        return True

    def follow(self, patterns: Sequence[str], handler: Follow, *, name: str = "") -> SocketListener:
        """See `EventLine.follow`; `name` changes nothing here."""
        wanted = tuple(patterns)

        def heard(datagram: bytes) -> None:
            for key, body in _decoder.decode(datagram):
                if any(matches(pattern, key) for pattern in wanted):
                    handler(body)

        return self._sockets.listen(heard)

    async def close(self) -> None:
        """See `EventLine.close`."""
        self._closed = True
        self._sockets.close()


def _portions(told: Sequence[Told]) -> Iterator[list[Told]]:
    """What fits one datagram each."""
    portion: list[Told] = []
    size = 0
    for one in told:
        octets = len(one[1]) + FRAMING_BYTES
        if portion and size + octets > LONGEST_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(one)
        size += octets
    if portion:
        yield portion
