"""The name service as the services see it."""

from __future__ import annotations

from typing import Protocol

from shared.dns.answers import AddressAnswer, MxAnswer


class Resolver(Protocol):
    """Answers are typed values; nothing here raises for what the DNS may say."""

    async def mail_exchangers(self, domain: str) -> MxAnswer:
        """Where mail for `domain` (an A-label name) goes. Implicit MX is resolved here."""

    async def addresses(self, host: str) -> AddressAnswer:
        """A and AAAA records of `host`."""
