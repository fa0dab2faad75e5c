"""Which lines of custody are kept where not all are wanted (pure).

The id of the mail decides, by one number for all kinds of events and all services: a mail is kept
with all its lines or, where kinds have different rates, with all that are at least as frequent.
What ends badly is never left out: failed, expired, uncertain and parked have no rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from zlib import crc32

_ALL = 1 << 32

Kept = Callable[[str, str], int]
"""For how many lines one of this kind and mail stands; 0: it is left out."""


def sampling(rates: Mapping[str, int]) -> Kept | None:
    """One in so many of each kind is kept, all of kinds without a rate; None: all of all."""
    most = {kind: _ALL // rate for kind, rate in rates.items() if rate > 1}
    if not most:
        return None

    def kept(kind: str, mail_id: str) -> int:
        below = most.get(kind)
        if below is None:
            return 1
        return rates[kind] if crc32(mail_id.encode("utf-8", "replace")) < below else 0

    return kept
