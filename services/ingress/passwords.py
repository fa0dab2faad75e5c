"""Checks passwords off the event loop.

A check costs tens of milliseconds and tens of megabytes by design, so few run at a time, on threads
of their own, few wait, and no place fills the queue alone. A success is remembered for some minutes
under a keyed hash; neither passwords nor what is derived from them is ever logged or kept in the
clear.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import argon2
from argon2.exceptions import Argon2Error, InvalidHash

AT_ONCE = 2
MOST_WAITING = 64
"""Checks that wait or run; equal ones are one."""
MOST_OF_PLACE = 16
"""Of those, for one IPv4 address or IPv6 /64."""
REMEMBERED_SECONDS = 300.0
MOST_REMEMBERED = 10_000

_hasher = argon2.PasswordHasher()
_Cost = tuple[int, int, int]


class Busy(Exception):  # noqa: N818 - nothing is wrong
    """Too many checks wait."""


def hash_password(password: str) -> str:
    """The argon2 hash that goes into the credentials file."""
    return _hasher.hash(password)


def cost_of(password_hash: str) -> _Cost:
    """Memory, passes and lanes of an argon2id hash. ValueError for anything else."""
    try:
        found = argon2.extract_parameters(password_hash)
    except InvalidHash:
        raise ValueError("not an argon2 hash (see postroad hash-password)") from None
    if found.type is not argon2.Type.ID:
        raise ValueError("not an argon2id hash (see postroad hash-password)")
    return found.memory_cost, found.time_cost, found.parallelism


def decoy_like(password_hash: str) -> str:
    """A hash of no password at the same cost.

    Were it a user's own, his password would be known by how fast it is refused to a stranger, and
    no guess at it would count as one at his account.
    """
    head, _, digest = password_hash.rpartition("$")
    octets = secrets.token_bytes(len(digest) * 3 // 4)
    return f"{head}${base64.b64encode(octets).decode().rstrip('=')}"


class PasswordChecks:
    """`clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._threads = ThreadPoolExecutor(AT_ONCE, "password")
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._of_place: Counter[str] = Counter()
        self._remembered: OrderedDict[bytes, float] = OrderedDict()

    async def fits(self, password_hash: str, password: bytes, place: str) -> bool:
        """Whether the hash is of the password. Raises `Busy`."""
        digest = hmac.digest(self._key, password_hash.encode() + b"\0" + password, hashlib.sha256)
        if self._clock() < self._remembered.get(digest, 0.0):
            return True
        check = self._running.get(digest) or self._begin(digest, password_hash, password, place)
        # Others may wait for the same check: whoever goes does not end it.
        correct = await asyncio.shield(check)
        if correct:
            self._remember(digest)
        return correct

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(
        self, digest: bytes, password_hash: str, password: bytes, place: str
    ) -> asyncio.Future[bool]:
        if len(self._running) >= MOST_WAITING or self._of_place[place] >= MOST_OF_PLACE:
            raise Busy
        loop = asyncio.get_running_loop()
        check = loop.run_in_executor(self._threads, _verify, password_hash, password)
        self._running[digest] = check
        self._of_place[place] += 1
        check.add_done_callback(partial(self._ended, digest, place))
        return check

    def _ended(self, digest: bytes, place: str, _check: asyncio.Future[bool]) -> None:
        del self._running[digest]
        self._of_place[place] -= 1
        if not self._of_place[place]:
            del self._of_place[place]

    def _remember(self, digest: bytes) -> None:
        self._remembered[digest] = self._clock() + REMEMBERED_SECONDS
        self._remembered.move_to_end(digest)
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)


def _verify(password_hash: str, password: bytes) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except Argon2Error:
        return False
