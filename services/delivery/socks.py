"""Connects through an egress gateway that speaks SOCKS5 (RFC 1928): mail leaves from its address.

The gateway is trusted by where it is: no user is told to it (method 0). What it says of a
connection that it could not make is an OSError, like that of a connection of our own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket

VERSION = 5
NO_AUTHENTICATION = 0
CONNECT = 1
IPV4, NAME, IPV6 = 1, 3, 4
REASONS = {
    1: "general failure",
    2: "not allowed",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}


async def connect_through(gateway: tuple[str, int], address: str, port: int) -> socket.socket:
    """A socket on which the octets of `address`, `port` come and go. Raises OSError."""
    sock = await _open(gateway)
    try:
        await _greet(sock)
        await _ask(sock, address, port)
    except BaseException:
        sock.close()
        raise
    return sock


def request(address: str, port: int) -> bytes:
    """The request to connect to an IP address (RFC 1928, 4)."""
    where = ipaddress.ip_address(address)
    kind = IPV4 if where.version == 4 else IPV6
    return bytes((VERSION, CONNECT, 0, kind)) + where.packed + port.to_bytes(2, "big")


async def _open(gateway: tuple[str, int]) -> socket.socket:
    loop = asyncio.get_running_loop()
    host, port = gateway
    error: OSError = ConnectionError(f"gateway {host} has no address")
    for family, kind, protocol, _, place in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, place)
        except OSError as failed:
            sock.close()
            error = ConnectionError(f"gateway {host}:{port}: {failed.strerror or failed}")
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise error


async def _greet(sock: socket.socket) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, bytes((VERSION, 1, NO_AUTHENTICATION)))
    version, method = await _read(sock, 2)
    if (version, method) != (VERSION, NO_AUTHENTICATION):
        raise ConnectionError("the gateway is no SOCKS5 server without authentication")


async def _ask(sock: socket.socket, address: str, port: int) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, request(address, port))
    version, reply, _, kind = await _read(sock, 4)
    if version != VERSION:
        raise ConnectionError("the gateway is no SOCKS5 server")
    if reply:
        raise ConnectionError(f"through the gateway: {REASONS.get(reply, f'failure {reply}')}")
    # From where it connects is of no use to us, but has to be read: the peer's octets follow.
    length = {IPV4: 4, IPV6: 16}.get(kind) or (await _read(sock, 1))[0]
    await _read(sock, length + 2)


async def _read(sock: socket.socket, count: int) -> bytes:
    """Exactly so many octets, and none of those that follow."""
    loop = asyncio.get_running_loop()
    octets = b""
    while len(octets) < count:
        more = await loop.sock_recv(sock, count - len(octets))
        if not more:
            raise ConnectionError("the gateway closed the connection")
        octets += more
    return octets
