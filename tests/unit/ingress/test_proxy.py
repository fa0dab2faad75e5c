"""Headers of the PROXY protocol: what is one, what is not yet, and what never will be."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.proxy import LONGEST, ProxyError, ProxyHeader, parse_proxy_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def version_2(source: str, command: int = 0x21, more: bytes = b"") -> bytes:
    address = ipaddress.ip_address(source)
    family = 0x11 if address.version == 4 else 0x21
    body = address.packed * 2 + b"\x30\x39\x00\x19" + more
    return SIGNATURE + bytes((command, family)) + len(body).to_bytes(2, "big") + body


HEADERS = [
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n", "192.0.2.7"),
    (b"PROXY TCP6 2001:db8::7 ::1 4711 25\r\n", "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", ""),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""),
    (version_2("192.0.2.7"), "192.0.2.7"),
    (version_2("2001:db8::7", more=b"\x04\x00\x02ab"), "2001:db8::7"),
    (version_2("192.0.2.7", command=0x20), ""),
    (SIGNATURE + b"\x21\x00\x00\x00", ""),
]


@pytest.mark.parametrize(("header", "source"), HEADERS)
def test_a_header_is_read_once_it_is_whole_and_nothing_after_it(header: bytes, source: str) -> None:
    wanted = ProxyHeader(len(header), source)
    assert parse_proxy_header(header) == wanted
    assert parse_proxy_header(header + b"EHLO x\r\n") == wanted
    assert [parse_proxy_header(header[:count]) for count in range(len(header))] == [None] * len(
        header
    )


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO x\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\n",
        b"PROXY  TCP4 192.0.2.7 127.0.0.1 4711 25\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 4711\r\n",
        b"PROXY TCP4 2001:db8::7 127.0.0.1 4711 25\r\n",
        b"PROXY TCP6 192.0.2.7 ::1 4711 25\r\n",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 65536\r\n",
        b"PROXY TCP4 192.0.2.007 127.0.0.1 4711 25\r\n",
        b"PROXY TCP4 \xff 127.0.0.1 4711 25\r\n",
        b"PROXY UDP4 192.0.2.7 127.0.0.1 4711 25\r\n",
        b"PROXY TCP4 " + b"1" * 107,
        b"proxy TCP4 192.0.2.7 127.0.0.1 4711 25\r\n",
        SIGNATURE + b"\x31\x11\x00\x0c" + b"x" * 12,
        SIGNATURE + b"\x22\x11\x00\x0c" + b"x" * 12,
        SIGNATURE + b"\x21\x12\x00\x0c" + b"x" * 12,
        SIGNATURE + b"\x21\x11\x00\x0b" + b"x" * 11,
        SIGNATURE + b"\x21\x11" + (LONGEST).to_bytes(2, "big"),
        b"\r\n\r\nQUIT\r\n",
    ],
)
def test_what_is_no_header_is_an_error(octets: bytes) -> None:
    with pytest.raises(ProxyError):
        parse_proxy_header(octets)


@given(st.ip_addresses(), st.binary(max_size=20))
def test_the_address_is_the_one_that_was_written(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address, rest: bytes
) -> None:
    found = parse_proxy_header(version_2(str(source)) + rest)
    assert found is not None
    assert found.source == str(source)


@given(st.binary() | st.binary().map(lambda octets: SIGNATURE + octets)
       | st.binary().map(lambda octets: b"PROXY " + octets))  # fmt: skip
def test_any_octets_are_a_header_or_the_start_of_one_or_an_error(octets: bytes) -> None:
    try:
        found = parse_proxy_header(octets)
    except ProxyError:
        return
    if found is not None and found.source:
        family = socket.AF_INET6 if ":" in found.source else socket.AF_INET
        socket.inet_pton(family, found.source)
        assert found.length <= len(octets)
