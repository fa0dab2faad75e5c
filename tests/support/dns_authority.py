"""An authoritative DNS server inside the test process: a real UDP socket on a free port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from shared.settings.model import DnsSettings

Zone = dict[tuple[str, str], list[str]]
"""(owner with trailing dot, type) to rdata in master-file form."""


class DnsAuthority(asyncio.DatagramProtocol):
    """Answers from `zone`; unknown owners are NXDOMAIN, unknown types empty answers.

    `rcodes` forces an answer code for an owner, `silent` owners get no answer. All may be changed
    while it runs; `queries` keeps what was asked.
    """

    def __init__(self, zone: Zone, ttl: int = 60) -> None:
        self.zone = zone
        self.ttl = ttl
        self.rcodes: dict[str, dns.rcode.Rcode] = {}
        self.silent: set[str] = set()
        self.queries: list[tuple[str, str]] = []
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        owner = query.question[0].name.to_text().lower()
        self.queries.append((owner, dns.rdatatype.to_text(query.question[0].rdtype)))
        if owner not in self.silent and self._transport is not None:
            self._transport.sendto(self._answer(query).to_wire(), addr)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        owner, kind = self.queries[-1]
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA | dns.flags.RA
        if owner in self.rcodes:
            response.set_rcode(self.rcodes[owner])
        elif records := self.zone.get((owner, kind)):
            response.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", kind, *records))
        elif all(owner != known for known, _ in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response


@contextlib.asynccontextmanager
async def serving(authority: DnsAuthority) -> AsyncIterator[DnsSettings]:
    """Listen; yields the settings that ask this server and no other."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: authority, local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    try:
        yield DnsSettings.model_validate({"nameservers": [f"127.0.0.1:{port}"], "timeout": "600ms"})
    finally:
        transport.close()
