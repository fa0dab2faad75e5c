"""The header of the PROXY protocol, versions 1 and 2, strictly (pure).

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt. A load balancer says with it from whom
a connection really is. It is read from configured networks only, and there it must come.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

LONGEST = 1024
"""Octets of a header; what version 2 may carry besides the addresses is read over."""
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LONGEST_V1 = 107
_V1 = re.compile(rb"PROXY (?:UNKNOWN(?: [ -~]*)?|TCP([46]) (\S+) (\S+) (\d{1,5}) (\d{1,5}))\r\n")
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESSES = {0x11: 4, 0x21: 16}
"""TCP over IPv4 and IPv6: octets of an address."""


class ProxyError(ValueError):
    """What came is no header of the PROXY protocol."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A header of `length` octets. `source` is empty where the balancer speaks for itself."""

    length: int
    source: str = ""


def parse_proxy_header(octets: bytes) -> ProxyHeader | None:
    """The header at the start of `octets`, None while it is not whole. Raises `ProxyError`."""
    if octets[: len(_SIGNATURE)] == _SIGNATURE[: len(octets)]:
        return _version_2(octets)
    if octets[:6] == b"PROXY "[: len(octets)]:
        return _version_1(octets)
    raise ProxyError("no PROXY header")


def _version_1(octets: bytes) -> ProxyHeader | None:
    end = octets.find(b"\n") + 1
    if not end:
        if len(octets) >= _LONGEST_V1:
            raise ProxyError("a PROXY line without an end")
        return None
    match = _V1.fullmatch(octets, 0, end)
    if match is None or end > _LONGEST_V1:
        raise ProxyError("not a PROXY line")
    version, source, destination, *ports = match.groups()
    if version is None:
        return ProxyHeader(end)
    family = ipaddress.IPv4Address if version == b"4" else ipaddress.IPv6Address
    try:
        text = str(family(source.decode("ascii")))
        family(destination.decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        raise ProxyError("not an address in a PROXY line") from None
    if any(int(port) > 65535 for port in ports):
        raise ProxyError("not a port in a PROXY line")
    return ProxyHeader(end, text)


def _version_2(octets: bytes) -> ProxyHeader | None:
    fixed = len(_SIGNATURE) + 4
    if len(octets) < fixed:
        return None
    command, family = octets[12], octets[13]
    length = fixed + int.from_bytes(octets[14:16], "big")
    if command not in {_LOCAL, _PROXY} or length > LONGEST:
        raise ProxyError("not a PROXY header of version 2")
    if len(octets) < length:
        return None
    size = _ADDRESSES.get(family, 0)
    if command == _LOCAL or family == 0:
        return ProxyHeader(length)
    if not size or length < fixed + 2 * size + 4:
        raise ProxyError("not a PROXY header for TCP")
    return ProxyHeader(length, str(ipaddress.ip_address(octets[fixed : fixed + size])))
