"""The decision on what a client presented, and how long a wrong one has to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from services.ingress.credentials import Authenticator, Credential
from services.ingress.policy import User
from services.ingress.throttle import Throttle
from shared.logs import get_logger


class Authentication:
    """Checks passwords for all sessions of the process."""

    def __init__(self, authenticator: Authenticator, throttle: Throttle) -> None:
        self._authenticator = authenticator
        self._throttle = throttle

    async def decide(self, username: bytes, password: bytes, address: str) -> User | None:
        """The user, or None, later with each failure from this address or for this name."""
        keys = (("address", address), ("username", username))
        user = await self._authenticator.check(username, password)
        if user is not None:
            self._throttle.succeeded(*keys)
            return user
        delay = self._throttle.failed(*keys, now=asyncio.get_running_loop().time())
        get_logger().warning("authentication failed", client=address, delay_seconds=delay)
        await asyncio.sleep(delay)
        return None

    def by_certificate(self, names: Iterable[str], username: bytes, address: str) -> User | None:
        """The user whom a verified certificate means; a wrong one is counted, not delayed."""
        user = self._authenticator.by_certificate(names, username)
        if user is None:
            get_logger().warning("authentication failed", client=address, certificate=[*names])
        return user

    def renew(self, credentials: Iterable[Credential]) -> None:
        """Know these users, and no others, from now on."""
        self._authenticator.renew(credentials)

    def close(self) -> None:
        """End the threads that check passwords."""
        self._authenticator.close()
