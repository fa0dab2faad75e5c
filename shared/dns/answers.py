"""What the DNS can say about a domain or a host, as types (RFC 5321, 5.1; RFC 7505)."""

from __future__ import annotations

from dataclasses import dataclass

from shared.messages.model import MailExchanger


@dataclass(frozen=True, slots=True)
class MailExchangers:
    """Where the domain takes mail: its MX set, or the domain itself (implicit MX).

    `authentic` tells that the names are the domain's own choice: validated by DNSSEC, or its own.
    """

    exchangers: tuple[MailExchanger, ...]
    implicit: bool = False
    authentic: bool = False


@dataclass(frozen=True, slots=True)
class NullMx:
    """The domain says that it takes no mail (RFC 7505)."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """A and AAAA records of a host, as text."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoSuchDomain:
    """NXDOMAIN: permanent."""


@dataclass(frozen=True, slots=True)
class NoRecords:
    """The name exists, records of this type do not: permanent."""


@dataclass(frozen=True, slots=True)
class DnsTrouble:
    """No answer to rely on (SERVFAIL, timeout, refusal): transient. `detail` is for logs."""

    detail: str


MxAnswer = MailExchangers | NullMx | NoSuchDomain | NoRecords | DnsTrouble
AddressAnswer = Addresses | NoSuchDomain | NoRecords | DnsTrouble
