"""Identifiers: of accepted mail (new, sortable by time) and of jobs (derived, stable)."""

from __future__ import annotations

import hashlib

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]
_SHIFTS = range(120, -1, -10)


def mail_id(milliseconds: int, entropy: bytes) -> str:
    """A queue id of 26 characters that sorts by time: 48 bits of time, 80 random bits.

    `milliseconds` since the epoch; `entropy` is 10 random octets.
    """
    bits = int.from_bytes(milliseconds.to_bytes(6, "big") + entropy, "big") << 2
    return "".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS])


def job_id(parent: str, destination: str, chunk: int, *addresses: str) -> str:
    """The id of a delivery job: the same for each redelivery of its predecessor.

    Never the same for other recipients, though the division into chunks may have changed meanwhile.
    """
    seed = "\n".join((parent, destination, str(chunk), *addresses)).encode()
    return hashlib.blake2b(seed, digest_size=16).hexdigest()
