"""Identifiers: of accepted mail (new, sortable by time) and of jobs (derived, stable)."""

from __future__ import annotations

import hashlib

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]
_LOW = (1 << 38) - 1


def mail_id(milliseconds: int, entropy: bytes) -> str:
    """A queue id of 26 characters that sorts by time: 48 bits of time, 80 random bits.

    `milliseconds` since the epoch; `entropy` is 10 random octets.
    """
    middle = int.from_bytes(entropy[:5], "big")
    last = int.from_bytes(entropy[5:], "big")
    # 130 bits in three numbers that fit a register.
    first = (milliseconds << 2) | (middle >> 38)
    middle = ((middle & _LOW) << 2) | (last >> 38)
    last = (last & _LOW) << 2
    pairs = _PAIRS
    return "".join((
        pairs[first >> 40], pairs[first >> 30 & 1023], pairs[first >> 20 & 1023],
        pairs[first >> 10 & 1023], pairs[first & 1023],
        pairs[middle >> 30], pairs[middle >> 20 & 1023], pairs[middle >> 10 & 1023],
        pairs[middle & 1023],
        pairs[last >> 30], pairs[last >> 20 & 1023], pairs[last >> 10 & 1023], pairs[last & 1023],
    ))  # fmt: skip


def job_id(parent: str, destination: str, chunk: int, *addresses: str) -> str:
    """The id of a delivery job: the same for each redelivery of its predecessor.

    Never the same for other recipients, though the division into chunks may have changed meanwhile.
    """
    seed = "\n".join((parent, destination, str(chunk), *addresses)).encode()
    return hashlib.blake2b(seed, digest_size=16).hexdigest()
