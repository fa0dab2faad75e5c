"""Checks of single values in the configuration (pure).

Each returns the value or says what is wrong. Every error is a ValueError for the person who wrote
the value. No text repeats a URL, since a URL may hold a password.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def broker_url(url: str) -> str:
    """`amqp://`, `amqps://` or `embedded:///folder`."""
    parts = _split_url(url)
    if parts.scheme == "embedded":
        _require_folder(parts, "embedded")
    elif parts.scheme in {"amqp", "amqps"}:
        _require_server(parts)
    else:
        raise ValueError("the scheme must be amqp, amqps or embedded")
    return url


def store_url(url: str) -> str:
    """`file:///folder` or `s3://bucket/prefix`."""
    parts = _split_url(url)
    if parts.scheme == "file":
        _require_folder(parts, "file")
    elif parts.scheme != "s3":
        raise ValueError("the scheme must be file or s3")
    elif not parts.netloc or "@" in parts.netloc:
        raise ValueError("write s3://bucket/prefix; credentials come from the environment")
    return url


def endpoint_url(url: str) -> str:
    """Empty, or the `http://` or `https://` URL of a server."""
    if url:
        parts = _split_url(url)
        if parts.scheme not in {"http", "https"}:
            raise ValueError("the scheme must be http or https")
        _require_server(parts)
    return url


def collector_url(url: str) -> str:
    """Empty, or an `http://` or `https://` URL without credentials, which would be logged."""
    if url and "@" in _split_url(url).netloc:
        raise ValueError("credentials come from OTEL_EXPORTER_OTLP_HEADERS in the environment")
    return endpoint_url(url)


def hide_password(url: str) -> str:
    """The URL as it may be logged."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if ":" not in userinfo:
        return url
    user = userinfo.partition(":")[0]
    return parts._replace(netloc=f"{user}:***{at}{host}").geturl()


def _split_url(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("not a URL") from None


def _require_folder(parts: SplitResult, scheme: str) -> None:
    if parts.netloc or parts.path.rstrip("/") == "" or parts.query or parts.fragment:
        raise ValueError(f"write {scheme}:///absolute/path")


def _require_server(parts: SplitResult) -> None:
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the port must be a number from 1 to 65535") from None
    if port == 0:
        raise ValueError("the port must be a number from 1 to 65535")
    if not parts.hostname:
        raise ValueError("the host is missing")


def split_host_port(text: str, default_port: int) -> tuple[str, int]:
    """Split `host`, `host:port`, `v6`, `[v6]` or `[v6]:port`. Raises ValueError otherwise."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        well_formed = bool(closed) and colon in {"", ":"}
    elif text.count(":") > 1:
        host, colon, port, well_formed = text, "", "", True
    else:
        host, colon, port = text.partition(":")
        well_formed = True
    if not well_formed or not host or (colon and not _is_port(port)):
        raise ValueError(f"{text!r} is not host:port")
    return host, int(port) if colon else default_port


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535


def route_host(text: str) -> str:
    """`host` or `host:port` of a next hop."""
    host, _ = split_host_port(text, 25)
    if not _is_address(host):
        host_name(host)
    return text


def gateway(text: str) -> str:
    """Empty, or `host:port` of a server in between."""
    return route_host(text) if text else text


def nameserver(text: str) -> str:
    """`address`, `address:port` or `[address]:port`, returned with its port."""
    host, port = split_host_port(text, 53)
    ip_address(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ip_address(text: str) -> str:
    """An IPv4 or IPv6 address."""
    if not _is_address(text):
        raise ValueError(f"{text!r} is not an IP address")
    return text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def network(value: object) -> Network:
    """A network such as `10.0.0.0/8`; host bits must be zero."""
    if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return value
    try:
        return ipaddress.ip_network(str(value))
    except ValueError as error:
        raise ValueError(str(error)) from None


def host_name(text: str) -> str:
    """A host name of letters, digits and hyphens (RFC 1123, 2.1), without a final dot."""
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise ValueError(f"{text!r} is not a host name")
    return text


def route_domain(text: str) -> str:
    """A domain to match, or `*`."""
    if not text or any(mark.isspace() or mark in "@<>" for mark in text):
        raise ValueError(f"{text!r} is not a domain")
    return text


def site_domain(text: str) -> str:
    """A domain that is a site of its own: one, without wildcards."""
    if "*" in text:
        raise ValueError(f"{text!r} is not a domain: there are no wildcards here")
    return route_domain(text)


def short_name(text: str) -> str:
    """A name that can be part of a queue's: lower case letters, digits, hyphens, underscores."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a name: up to 40 lower case letters, digits, hyphens and underscores"
        )
    return text


def comma_list(value: object) -> object:
    """A list, also written as `a,b,c`, as an environment variable has it."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def at_least_one(items: tuple[object, ...]) -> tuple[object, ...]:
    """A list that may not be empty."""
    if not items:
        raise ValueError("must not be empty")
    return items


def overlap(address: str, other: str) -> bool:
    """Whether one port cannot be had on both: equal, or one stands for all of its family."""
    first, second = ipaddress.ip_address(address), ipaddress.ip_address(other)
    if first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified
