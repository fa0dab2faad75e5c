"""Identifiers: of accepted mail (new, sortable by time) and of jobs (derived, stable)."""

from __future__ import annotations

import base64
import hashlib


def mail_id(milliseconds: int, entropy: bytes) -> str:
    """A queue id of 26 characters that sorts by time: 48 bits of time, 80 random bits.

    `milliseconds` since the epoch; `entropy` is 10 random octets.
    """
    raw = milliseconds.to_bytes(6, "big") + entropy
    return base64.b32hexencode(raw)[:26].decode("ascii")


def job_id(parent: str, destination: str, chunk: int, *addresses: str) -> str:
    """The id of a delivery job: the same for each redelivery of its predecessor.

    Never the same for other recipients, though the division into chunks may have changed meanwhile.
    """
    seed = "\n".join((parent, destination, str(chunk), *addresses)).encode()
    return hashlib.blake2b(seed, digest_size=16).hexdigest()
