"""Who may send, over which listeners, and how much, as configured."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from shared.messages.model import MessageClass
from shared.settings.section import (
    Address,
    AtLeastOne,
    CommaList,
    Network,
    PortOrFree,
    Section,
    in_units,
)
from shared.settings.units import Duration, parse_duration_ms


class ListenerTls(StrEnum):
    """How a listener offers TLS."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


class ListenerAuth(StrEnum):
    """Whether a listener offers or demands AUTH."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class LongLines(StrEnum):
    """What becomes of a content with a line that is longer than the standard permits."""

    REFUSE = "refuse"
    FOLD = "fold"


class ListenerSettings(Section):
    """One address that accepts SMTP."""

    address: Address = Field("0.0.0.0", description="IP address to listen on.")
    port: PortOrFree = Field(description="TCP port; 0 takes a free one (for tests).")
    tls: ListenerTls = Field(
        ListenerTls.STARTTLS, description="`none`, `starttls` or `implicit` (TLS from the start)."
    )
    auth: ListenerAuth = Field(
        ListenerAuth.REQUIRED, description="`none`, `optional` or `required` before MAIL."
    )
    auth_without_tls: bool = Field(
        False, description="Offer AUTH on a connection without TLS. Passwords cross in the clear."
    )
    relay_networks: Annotated[tuple[Network, ...], CommaList] = Field(
        (), description="Clients in these networks may relay without AUTH."
    )
    proxy_networks: Annotated[tuple[Network, ...], CommaList] = Field(
        (),
        description="Balancers in these networks begin with a header of the PROXY protocol "
        "(version 1 or 2), before TLS; it tells from whom the connection is.",
    )
    message_class: MessageClass = Field(
        MessageClass.TRANSACTIONAL,
        description="Class of mail accepted here unless the user or the header "
        "`X-Postroad-Class` says otherwise: `transactional` or `bulk`.",
    )
    tenant: str = Field("default", description="Tenant of mail relayed here without AUTH.")

    @model_validator(mode="after")
    def _auth_needs_tls(self) -> Self:
        offers_auth = self.auth is not ListenerAuth.NONE
        if offers_auth and self.tls is ListenerTls.NONE and not self.auth_without_tls:
            raise ValueError("auth needs tls: starttls or implicit (or auth_without_tls: true)")
        if self.auth is ListenerAuth.NONE and not self.relay_networks:
            raise ValueError("nobody may send here: give relay_networks or auth")
        return self


class TlsSettings(Section):
    """The certificate that ingress shows."""

    certificate: Path = Field(description="PEM file: the certificate and its chain.")
    key: Path = Field(description="PEM file: the private key.")
    client_authority: Path | None = Field(
        None,
        description="PEM file: who signs certificates of clients. A client that shows one may use "
        "AUTH EXTERNAL as the user who has one of its names (`certificates`).",
    )


class TokenAlgorithm(StrEnum):
    """How a token may be signed (RFC 7518, 3.1; RFC 8037): with a public key, always."""

    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"
    PS256 = "PS256"
    PS384 = "PS384"
    PS512 = "PS512"
    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    EDDSA = "EdDSA"


class OauthSettings(Section):
    """AUTH OAUTHBEARER (RFC 7628): signed tokens (JWT) of one issuer, always under TLS.

    The user whom a token names must be in the credentials file, with `oauth: true`.
    """

    issuer: Annotated[str, Field(min_length=1)] = Field(description="The claim `iss`, exactly.")
    audience: Annotated[tuple[str, ...], CommaList, AtLeastOne] = Field(
        description="The claim `aud` must have one of these."
    )
    jwks_file: Path = Field(
        description="JSON Web Key Set with the public keys of the issuer. It is read again when it "
        "changes."
    )
    algorithms: Annotated[tuple[TokenAlgorithm, ...], CommaList, AtLeastOne] = Field(
        (TokenAlgorithm.RS256, TokenAlgorithm.ES256, TokenAlgorithm.EDDSA),
        description="Signatures that are taken.",
    )
    username_claim: Annotated[str, Field(min_length=1)] = Field(
        "sub", description="The claim that names the user."
    )
    tenant_claim: str = Field(
        "", description="The claim that names the tenant; empty: that of the credentials file."
    )
    clock_skew: Duration = Field(
        parse_duration_ms("60s"), description="So much the issuer's clock may differ from ours."
    )


class IngressSettings(Section):
    """Acceptance of mail over SMTP."""

    listeners: Annotated[tuple[ListenerSettings, ...], AtLeastOne] = Field(
        (
            ListenerSettings(
                address="127.0.0.1",
                port=2525,
                tls=ListenerTls.NONE,
                auth=ListenerAuth.NONE,
                relay_networks=(ipaddress.ip_network("127.0.0.0/8"),),
            ),
        ),
        description="Addresses to listen on, each with its own rules.",
    )
    share_ports: bool = Field(
        False,
        description="Let other processes listen on the same addresses (`SO_REUSEPORT`); "
        "`postroad ingress --processes` sets it.",
    )
    tls: TlsSettings | None = Field(None, description="Needed by listeners with TLS.")
    credentials_file: Path | None = Field(
        None, description="YAML list of users with argon2 hashes (`postroad hash-password`)."
    )
    oauth: OauthSettings | None = Field(None, description="For AUTH OAUTHBEARER.")
    max_message_bytes: Annotated[int, Field(ge=1024)] = Field(
        26_214_400,
        json_schema_extra=in_units("octets"),
        description="Announced by SIZE; a larger message is refused with 552.",
    )
    long_lines: LongLines = Field(
        LongLines.REFUSE,
        description="Lines of more than 998 octets (RFC 5322, 2.1.1): `refuse` the mail, or `fold` "
        "them, which breaks signatures that cover them.",
    )
    max_mails_per_session: Annotated[int, Field(ge=1)] = Field(
        10_000,
        json_schema_extra=in_units("transactions"),
        description="Transactions a session; then it is ended with 421 (RFC 9422: MAILMAX).",
    )
    max_recipients: Annotated[int, Field(ge=100)] = Field(
        1000,
        json_schema_extra=in_units("recipients"),
        description="Recipients a transaction; further ones get 452 (RFC 5321, 4.5.3.1.8).",
    )
    max_connections: Annotated[int, Field(ge=1)] = Field(
        10_000,
        json_schema_extra=in_units("sessions"),
        description="Sessions at once; further ones get 421.",
    )
    max_connections_per_address: Annotated[int, Field(ge=1)] = Field(
        500,
        json_schema_extra=in_units("sessions"),
        description="Sessions at once of one address (IPv4) or /64 (IPv6). Relay networks have no "
        "such limit. Behind a balancer that hides addresses all clients are one.",
    )
    max_connections_per_network: Annotated[int, Field(ge=1)] = Field(
        2000,
        json_schema_extra=in_units("sessions"),
        description="Sessions at once of one /24 (IPv4) or /48 (IPv6), likewise.",
    )
    connections_per_minute: Annotated[int, Field(ge=1)] = Field(
        3000,
        json_schema_extra=in_units("sessions"),
        description="New sessions a minute of one address (IPv4) or /64 (IPv6), likewise.",
    )
    transaction_timeout: Duration = Field(
        parse_duration_ms("30m"),
        description="From MAIL to the end of the content; then the session is ended.",
    )
    min_data_rate: Annotated[int, Field(ge=0)] = Field(
        100,
        json_schema_extra=in_units("octets a second"),
        description="A content that comes more slowly, after 30 s, ends its session; 0: none does.",
    )
    max_loop_lag: Duration = Field(
        parse_duration_ms("1s"),
        description="When the process is late by more, new sessions get 421 and new mails 452.",
    )
    max_memory_bytes: Annotated[int, Field(ge=0)] = Field(
        0,
        json_schema_extra=in_units("octets"),
        description="Likewise when the process has more in memory; 0: no limit.",
    )
    command_timeout: Duration = Field(
        parse_duration_ms("5m"),
        description="Idle time before a session is ended (RFC 5321, 4.5.3.2.7).",
    )

    @model_validator(mode="after")
    def _listeners_have_what_they_need(self) -> Self:
        for number, listener in enumerate(self.listeners):
            if listener.tls is not ListenerTls.NONE and self.tls is None:
                raise ValueError(f"listeners.{number}.tls is {listener.tls}: give ingress.tls")
            if listener.auth is not ListenerAuth.NONE and self.credentials_file is None:
                raise ValueError(
                    f"listeners.{number}.auth is {listener.auth}: give ingress.credentials_file"
                )
        if self.oauth is not None and self.credentials_file is None:
            raise ValueError("oauth needs users: give ingress.credentials_file")
        return self
