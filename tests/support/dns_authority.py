"""An authoritative DNS server inside the test process: real sockets on a free port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from shared.settings.model import DnsSettings

Zone = dict[tuple[str, str], list[str]]
"""(owner with trailing dot, type) to rdata in master-file form."""

LONGEST_CHAIN = 20


class DnsAuthority(asyncio.DatagramProtocol):
    """Answers from `zone`; unknown owners are NXDOMAIN, unknown types empty answers.

    A CNAME is followed as a full resolver does it, as far as the zone and `LONGEST_CHAIN` go.
    `rcodes` forces an answer code for an owner, `silent` owners get no answer, neither do the
    questions in `unheard`; answers that are long, or about `truncated` owners, are cut over UDP.
    Answers about `validated` owners have the AD bit; `ad_asked` tells whether queries had it.
    All may be changed while it runs; `queries` keeps what was asked.
    """

    def __init__(self, zone: Zone, ttl: int = 60) -> None:
        self.zone = zone
        self.ttl = ttl
        self.rcodes: dict[str, dns.rcode.Rcode] = {}
        self.silent: set[str] = set()
        self.unheard: set[tuple[str, str]] = set()
        self.truncated: set[str] = set()
        self.validated: set[str] = set()
        self.ad_asked: set[bool] = set()
        self.queries: list[tuple[str, str]] = []
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        response = self._answer(data)
        if response is None or self._transport is None:
            return
        owner = response.question[0].name.to_text().lower()
        try:
            wire = b"" if owner in self.truncated else response.to_wire()
        except dns.exception.TooBig:
            wire = b""
        if not wire:
            response.answer.clear()
            response.flags |= dns.flags.TC
            wire = response.to_wire()
        self._transport.sendto(wire, addr)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one TCP connection (RFC 1035, 4.2.2)."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                response = self._answer(await reader.readexactly(size))
                if response is not None:
                    wire = response.to_wire(max_size=65535)
                    writer.write(len(wire).to_bytes(2, "big") + wire)
        writer.close()

    def _answer(self, data: bytes) -> dns.message.Message | None:
        query = dns.message.from_wire(data)
        owner = query.question[0].name.to_text().lower()
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        self.queries.append((owner, kind))
        if owner in self.silent or (owner, kind) in self.unheard:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA | dns.flags.RA
        self.ad_asked.add(bool(query.flags & dns.flags.AD))
        if owner in self.validated:
            response.flags |= dns.flags.AD
        if owner in self.rcodes:
            response.set_rcode(self.rcodes[owner])
        else:
            self._fill(response, owner, kind)
        return response

    def _fill(self, response: dns.message.Message, owner: str, kind: str) -> None:
        for _ in range(LONGEST_CHAIN):
            if (owner, kind) in self.zone or (owner, "CNAME") not in self.zone:
                break
            (target,) = self.zone[owner, "CNAME"]
            response.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", "CNAME", target))
            owner = target
        if records := self.zone.get((owner, kind)):
            response.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", kind, *records))
        elif all(owner != known for known, _ in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)


@contextlib.asynccontextmanager
async def serving(
    authority: DnsAuthority, *, tcp: bool = False, timeout: str = "600ms"
) -> AsyncIterator[DnsSettings]:
    """Listen; yields the settings that ask this server and no other, for `timeout` at most."""
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        port = 0
        if tcp:  # first, since a free port of TCP is harder to find
            server = await asyncio.start_server(authority.talk, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(
            lambda: authority, local_addr=("127.0.0.1", port)
        )
        stack.callback(transport.close)
        port = transport.get_extra_info("sockname")[1]
        yield DnsSettings.model_validate({"nameservers": [f"127.0.0.1:{port}"], "timeout": timeout})
