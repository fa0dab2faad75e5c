"""Reverse-paths and forward-paths as typed values (RFC 5321, 4.1.2; RFC 6531, 3.3). Pure.

A path is parsed once, here, and no other module looks for brackets or control octets. What is
accepted is printable, so it can be written into a command or a header as it is.

Doubt: a local-part may be longer than the 64 octets of RFC 5321, 4.5.3.1.1, since addresses made
for each recipient (VERP, SRS) often are; the limit of the whole path holds.
"""

from __future__ import annotations

import ipaddress
import re

import idna
import msgspec

from shared.smtp.errors import ProtocolError
from shared.smtp.server_replies import FORWARD_PATH_SYNTAX, REVERSE_PATH_SYNTAX

LONGEST_PATH = 256
"""Octets of a path with its brackets, without a source route (RFC 5321, 4.5.3.1.3)."""
LONGEST_DOMAIN = 253
LONGEST_LABEL = 63
_TAG = "IPv6:"

_UTF8 = "\u00a0-\U0010ffff"  # RFC 6531: any but ASCII; without the C1 controls
_ATOM = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{_UTF8}-]++"
_QUOTED = rf'"(?:[ !#-\[\]-~{_UTF8}]|\\[ -~])*+"'
_LABEL = rf"[A-Za-z0-9{_UTF8}]++(?:-++[A-Za-z0-9{_UTF8}]++)*+"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*+"
_LITERAL = r"\[(?:[0-9.]++|(?i:IPv6):[0-9A-Fa-f:.]++)\]"
_ROUTE = rf"@{_DOMAIN}(?:,@{_DOMAIN})*+:"
_MAILBOX = rf"({_ATOM}(?:\.{_ATOM})*+|{_QUOTED})@({_DOMAIN}|{_LITERAL})"
_PATH = re.compile(rf"<(?:{_ROUTE})?+{_MAILBOX}>")
_OTHER_STOPS = frozenset("\u3002\uff0e\uff61")
_POSTMASTER = re.compile(r"<(postmaster)>", re.IGNORECASE)
_HELLO = re.compile(r"[A-Za-z0-9._-]{1,255}|\[(?:[0-9.]{1,15}|IPv6:[0-9A-Fa-f:.]{2,45})\]")


class ReversePath(msgspec.Struct, frozen=True):
    """Where notifications go. `NULL` is that of notifications themselves: nothing answers it."""

    local_part: str
    domain: str

    @property
    def is_null(self) -> bool:
        """Whether this is `<>`."""
        return not self.domain

    @property
    def address(self) -> str:
        """Without brackets; empty for the null reverse-path."""
        return f"{self.local_part}@{self.domain}" if self.domain else ""

    def __str__(self) -> str:
        return f"<{self.address}>"


NULL = ReversePath("", "")


class ForwardPath(msgspec.Struct, frozen=True):
    """One recipient. Only `Postmaster` may come without a domain (RFC 5321, 4.1.1.3)."""

    local_part: str
    domain: str

    @property
    def address(self) -> str:
        """Without brackets."""
        return f"{self.local_part}@{self.domain}" if self.domain else self.local_part

    def __str__(self) -> str:
        return f"<{self.address}>"


def parse_reverse_path(text: str) -> tuple[ReversePath, str]:
    """The reverse-path at the start of `text`, and what follows it. Raises `ProtocolError`."""
    match = _PATH.match(text)
    if match is not None and _is_sound(match):
        return ReversePath(match[1], _domain(match[2])), text[match.end() :]
    if text.startswith("<>"):
        return NULL, text[2:]
    raise ProtocolError(REVERSE_PATH_SYNTAX)


def parse_forward_path(text: str) -> tuple[ForwardPath, str]:
    """The forward-path at the start of `text`, and what follows it. Raises `ProtocolError`."""
    match = _PATH.match(text)
    if match is not None and _is_sound(match):
        return ForwardPath(match[1], _domain(match[2])), text[match.end() :]
    match = _POSTMASTER.match(text)
    if match is not None:
        return ForwardPath(match[1], ""), text[match.end() :]
    raise ProtocolError(FORWARD_PATH_SYNTAX)


def is_hello_name(text: str) -> bool:
    """Whether `text` may follow EHLO: a domain or address literal, in a generous sense.

    Names with underscores and wrong names are common and must not be refused (RFC 5321, 4.1.4);
    what passes is safe inside a Received line.
    """
    return _HELLO.fullmatch(text) is not None


def _domain(text: str) -> str:
    """A literal's tag may come in any case (RFC 5234, 2.3); later readers know one."""
    if text[:1] == "[" and text[1].isalpha():
        return f"[{_TAG}{text[len(_TAG) + 1 :]}"
    return text


def _is_sound(match: re.Match[str]) -> bool:
    """What the grammar cannot say: lengths, addresses, and the rules of IDNA."""
    local_part, domain = match[1], match[2]
    if not (local_part.isascii() or local_part.isprintable()):
        return False  # what nobody sees: delivery would park it, and not only this recipient
    if domain.startswith("["):
        return _is_address(domain[1:-1]) and _fits(local_part, domain)
    if not domain.isascii():
        return _is_idna(domain) and _fits(local_part, domain)
    if len(domain) > LONGEST_LABEL and not _labels_fit(domain):
        return False
    if "--" in domain and not _are_a_labels_valid(domain):
        return False
    return _fits(local_part, domain)


def _fits(local_part: str, domain: str) -> bool:
    characters = len(local_part) + len(domain) + len("<@>")
    if characters <= LONGEST_PATH // 4:  # four octets each at most
        return True
    return len(local_part.encode()) + len(domain.encode()) + len("<@>") <= LONGEST_PATH


def _labels_fit(domain: str) -> bool:
    short = all(len(label) <= LONGEST_LABEL for label in domain.split("."))
    return short and len(domain) <= LONGEST_DOMAIN


def _are_a_labels_valid(domain: str) -> bool:
    """Whether every label that says it is an A-label is one (RFC 5890, 2.3.2.1)."""
    try:
        for label in domain.lower().split("."):
            if label.startswith("xn--"):
                idna.ulabel(label)
    except (idna.IDNAError, UnicodeError):
        return False
    return True


def _is_idna(domain: str) -> bool:
    # What only looks like a full stop would make one label here and two for the next reader.
    if len(domain) > LONGEST_DOMAIN or not _OTHER_STOPS.isdisjoint(domain):
        return False
    if not domain.isprintable():
        return False
    try:
        idna.encode(domain, uts46=True)
    except (idna.IDNAError, UnicodeError):
        return False
    return True


def _is_address(literal: str) -> bool:
    try:
        if literal[0].isalpha():
            ipaddress.IPv6Address(literal[len(_TAG) :])
        else:
            ipaddress.IPv4Address(literal)
    except ValueError:
        return False
    return True
