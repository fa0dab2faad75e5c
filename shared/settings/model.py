"""The one configuration of postroad: every key, its type, default, unit and meaning.

`docs/configuration.md` is generated from these models (`make docs`), so a description here is
the documentation. Unknown keys are errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, model_validator

from shared.plan.providers import provider_names
from shared.settings import values
from shared.settings.accepting import IngressSettings
from shared.settings.section import (
    Address,
    AtLeastOne,
    CommaList,
    Port,
    PortOrFree,
    Section,
    in_units,
)
from shared.settings.sending import TimeoutSettings, Uncertain
from shared.settings.shaping import (
    Domains,
    LaneMatch,
    LaneSettings,
    LimitMatch,
    LimitsSettings,
    ProviderSettings,
    check_lanes,
)
from shared.settings.telling import EventSettings
from shared.settings.tracing import TracingSettings
from shared.settings.units import Duration, parse_duration_ms


class BrokerSettings(Section):
    """Where the queues live."""

    url: Annotated[str, AfterValidator(values.broker_url)] = Field(
        "amqp://guest:guest@127.0.0.1:5672//",
        description="RabbitMQ (`amqp://`, `amqps://`) or the embedded broker "
        "(`embedded:///directory`). Logged without its password.",
    )
    url_file: Path | None = Field(
        None, description="File with the URL instead: one line, read when a service starts."
    )
    username_file: Path | None = Field(
        None, description="File with the user, who goes into the URL; any character may occur."
    )
    password_file: Path | None = Field(None, description="File with the user's password, likewise.")
    ca_file: Path | None = Field(
        None,
        description="PEM file: who signs the broker's certificate (`amqps://`). "
        "Default: whom the system trusts.",
    )
    confirm_timeout: Duration = Field(
        parse_duration_ms("30s"),
        description="How long a publish may wait for its confirm before it counts as unknown and "
        "the connection is replaced.",
    )
    heartbeat: Duration = Field(
        parse_duration_ms("15s"),
        description="AMQP heartbeat; a dead link is noticed within two of them.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.url_file and "url" in self.model_fields_set:
            raise ValueError("url and url_file exclude each other")
        if bool(self.username_file) != bool(self.password_file):
            raise ValueError("username_file and password_file go together")
        return self


class ContentStoreSettings(Section):
    """Where contents lie that are too large for a queue."""

    url: Annotated[str, AfterValidator(values.store_url)] = Field(
        "file:///var/lib/postroad/content",
        description="`file:///directory` on one machine, `s3://bucket/prefix` in production.",
    )
    inline_max_bytes: Annotated[int, Field(ge=0, le=8 << 20)] = Field(
        65536,
        json_schema_extra=in_units("octets"),
        description="Contents up to this size travel inside the broker message.",
    )
    s3_endpoint: Annotated[str, AfterValidator(values.endpoint_url)] = Field(
        "", description="URL of an S3-compatible server; empty means AWS itself."
    )
    s3_region: str = Field("us-east-1", description="Region of the bucket.")
    s3_access_key_id: str = Field(
        "",
        description="With `s3_secret_access_key`: who asks. Empty: what AWS names in the "
        "environment, such as `AWS_ACCESS_KEY_ID` or a role.",
    )
    s3_secret_access_key: SecretStr = Field(
        SecretStr(""), description="Never logged. Better given as a file, see above."
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.s3_access_key_id) != bool(self.s3_secret_access_key.get_secret_value()):
            raise ValueError("give both of s3_access_key_id and s3_secret_access_key, or none")
        return self


class DnsSettings(Section):
    """Which DNS servers are asked."""

    nameservers: Annotated[
        tuple[Annotated[str, AfterValidator(values.nameserver)], ...], CommaList
    ] = Field((), description="`address:port` of each; empty means those of the system.")
    trust_ad: bool = Field(
        False,
        description="Believe the servers when they say that DNSSEC has validated an answer (the AD "
        "bit). Only for validating servers, reached in a way in which nobody can change their "
        "answers, such as one on this machine. Mail with REQUIRETLS goes to mail exchangers out "
        "of the DNS only if they were validated.",
    )
    timeout: Duration = Field(
        parse_duration_ms("6s"), description="Time for one lookup over all servers and tries."
    )


class RouteSettings(Section):
    """A static route."""

    domains: Annotated[
        tuple[Annotated[str, AfterValidator(values.route_domain)], ...], AtLeastOne, CommaList
    ] = Field(
        description="Domains this route serves; `*` is every domain without a route of its own."
    )
    hosts: Annotated[
        tuple[Annotated[str, AfterValidator(values.route_host)], ...], AtLeastOne, CommaList
    ] = Field(
        description="`host` or `host:port` of each next hop, in order of preference. They may be "
        "private addresses."
    )


class RouterSettings(Section):
    """Where mail goes."""

    routes: tuple[RouteSettings, ...] = Field(
        (), description="Static routes, first match wins; no match means the MX of the domain."
    )
    own_names: Annotated[
        tuple[Annotated[str, AfterValidator(values.host_name)], ...], CommaList
    ] = Field(
        (),
        description="Names, beside `hostname`, under which mail exchangers are this system. Mail "
        "never goes to them, nor to exchangers that are no better (RFC 5321, 5.1).",
    )
    prefetch: Annotated[int, Field(ge=1, le=10_000)] = Field(
        200,
        json_schema_extra=in_units("messages"),
        description="Messages the router may hold at a time.",
    )


class DeliverySettings(Section):
    """Sending, retrying, giving up."""

    smtp_port: Port = Field(25, description="Port of mail exchangers found in DNS.")
    allow_private_addresses: bool = Field(
        False,
        description="Connect to loopback, private, link-local, multicast or unspecified addresses "
        "that came out of DNS. For tests. Static routes may name them anyway.",
    )
    socks5: Annotated[str, AfterValidator(values.gateway)] = Field(
        "",
        description="`host:port` of an egress gateway that speaks SOCKS5 without authentication: "
        "every connection to a next hop is made through it. Empty: none.",
    )
    retry_schedule: Annotated[tuple[Duration, ...], AtLeastOne, CommaList] = Field(
        tuple(map(parse_duration_ms, ("1m", "5m", "15m", "30m", "1h", "2h", "4h"))),
        description="Wait before each further attempt; the last one repeats.",
    )
    delay_notice: Duration = Field(
        parse_duration_ms("4h"),
        description="After which a sender who asked for it (`NOTIFY=DELAY`) is told of a delay.",
    )
    max_age: Duration = Field(
        parse_duration_ms("72h"),
        description="A recipient still undelivered after this time gets a failure DSN.",
    )
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = Field(
        2000,
        json_schema_extra=in_units("connections"),
        description="Connections one delivery worker has to all sites together. Each is an open "
        "file; sites beyond that wait for one.",
    )
    idle_timeout: Duration = Field(
        parse_duration_ms("5s"), description="A connection without work is closed after this time."
    )
    timeouts: TimeoutSettings = Field(
        default_factory=TimeoutSettings,
        description="How long a next hop may take. All steps before the end of the content get 12 "
        "minutes together at the most.",
    )
    chunking: bool = Field(
        True,
        description="Send contents with BDAT to next hops that offer CHUNKING (RFC 3030). "
        "`false`: always DATA.",
    )
    tls_authority: Path | None = Field(
        None,
        description="PEM file: who signs certificates of next hops, for mail with REQUIRETLS, the "
        "only one for which certificates are verified. Default: those whom the system believes. "
        "Read at the start.",
    )
    uncertain: Uncertain = Field(
        Uncertain.RETRY,
        description="What becomes of a recipient whose receiver got the whole content and then "
        "was lost before it replied, so that nobody knows whether it took the mail. `retry`: sent "
        "once more, which may make a copy. `sent`: counts as delivered, which may lose the mail. "
        "`hold`: parked for a person to decide.",
    )
    uncertain_by_tenant: dict[str, Uncertain] = Field(
        {}, description="`delivery.uncertain` of single tenants, as in `{bank: hold}`."
    )
    heartbeat: Duration = Field(
        parse_duration_ms("2s"),
        description="How often a delivery worker tells the others that it lives. The partitions of "
        "one that dies are taken over within three of them.",
    )
    prefetch: Annotated[int, Field(ge=1, le=10_000)] = Field(
        500,
        json_schema_extra=in_units("jobs"),
        description="Jobs of one class a delivery worker may hold at a time, and half as many more "
        "that come again.",
    )


class MetricsSettings(Section):
    """What is counted beyond what is always counted."""

    domains: Annotated[Domains, Field(max_length=50)] = Field(
        (),
        description="Recipient domains that have an attempts counter of their own, at most 50.",
    )


class AdminSettings(Section):
    """Metrics and health over HTTP."""

    address: Address = Field("127.0.0.1", description="IP address to listen on.")
    ingress_port: PortOrFree = Field(9101, description="TCP port of ingress.")
    router_port: PortOrFree = Field(9102, description="TCP port of the router.")
    delivery_port: PortOrFree = Field(9103, description="TCP port of delivery.")


class LogLevel(StrEnum):
    """Least severity that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Rate = Annotated[int, Field(ge=1, le=1_000_000)]


class SamplingSettings(Section):
    """Which lines of custody are left out: one in so many is kept, and says so (`sampled`).

    The id of the mail decides, so that a mail has all its lines or none. Lines of failed, expired,
    uncertain and parked recipients, warnings and errors are always kept.
    """

    accepted: Rate = Field(1, json_schema_extra=in_units("lines"), description="Of `accepted`.")
    routed: Rate = Field(1, json_schema_extra=in_units("lines"), description="Of `routed`.")
    delivered: Rate = Field(1, json_schema_extra=in_units("lines"), description="Of `delivered`.")
    deferred: Rate = Field(1, json_schema_extra=in_units("lines"), description="Of `deferred`.")


class LoggingSettings(Section):
    """What is logged, to standard error. Changes are taken up without a restart."""

    level: LogLevel = Field(
        LogLevel.INFO, description="`debug`, `info` (each change of custody), `warning`, `error`."
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`json`, `console`, or `auto`: console on a terminal, else json."
    )
    sampling: SamplingSettings = Field(
        default_factory=SamplingSettings, description="Lines that are left out."
    )


def _know_providers(
    key: str, matches: Sequence[LaneMatch | LimitMatch], info: ValidationInfo
) -> None:
    if "providers" not in info.data:
        return  # an error of its own
    known = provider_names(info.data["providers"])
    for number, match in enumerate(matches):
        for name in match.providers:
            if name not in known:
                where = f"{key}.{number}.match.providers"
                raise ValueError(f"{where}: {name!r} is none of {', '.join(known)}")


def _check_lanes(lanes: tuple[LaneSettings, ...], info: ValidationInfo) -> tuple[LaneSettings, ...]:
    _know_providers("lanes", [lane.match for lane in lanes], info)
    return check_lanes(lanes)


def _check_limits(limits: LimitsSettings, info: ValidationInfo) -> LimitsSettings:
    matches = [override.match for override in limits.overrides]
    _know_providers("limits.overrides", matches, info)
    return limits


class Settings(Section):
    """The whole configuration file."""

    hostname: Annotated[str, AfterValidator(values.host_name)] = Field(
        "localhost.localdomain",
        description="Name in the banner, EHLO, Received and DSNs. Should resolve to this host.",
    )
    broker: BrokerSettings = Field(default_factory=BrokerSettings, description="The queues.")
    content_store: ContentStoreSettings = Field(
        default_factory=ContentStoreSettings, description="Large contents."
    )
    ingress: IngressSettings = Field(default_factory=IngressSettings, description="Acceptance.")
    dns: DnsSettings = Field(default_factory=DnsSettings, description="Name service.")
    router: RouterSettings = Field(default_factory=RouterSettings, description="Routing.")
    delivery: DeliverySettings = Field(default_factory=DeliverySettings, description="Delivery.")
    providers: tuple[ProviderSettings, ...] = Field(
        (), description="Mail providers, looked up before those that postroad knows by itself."
    )
    lanes: Annotated[tuple[LaneSettings, ...], AfterValidator(_check_lanes)] = Field(
        (LaneSettings(name="default"),),
        description="Queues with delivery workers of their own. The first lane that matches takes "
        "the mail; `default` takes the rest and is always there.",
    )
    limits: Annotated[LimitsSettings, AfterValidator(_check_limits)] = Field(
        default_factory=LimitsSettings, description="What each site is sent at most."
    )
    admin: AdminSettings = Field(default_factory=AdminSettings, description="Metrics and health.")
    metrics: MetricsSettings = Field(
        default_factory=MetricsSettings, description="What is counted."
    )
    events: EventSettings = Field(
        default_factory=EventSettings, description="What is told of each mail."
    )
    logging: LoggingSettings = Field(default_factory=LoggingSettings, description="Logs.")
    tracing: TracingSettings = Field(default_factory=TracingSettings, description="Traces.")
    shutdown_grace: Duration = Field(
        parse_duration_ms("30s"),
        description="Time a service may take to drain after SIGTERM before it gives up.",
    )

    @model_validator(mode="after")
    def _no_port_twice(self) -> Self:
        """One machine may run all services: two keys that name one port cannot both have it."""
        taken: list[tuple[str, str, int]] = []
        for key, address, port in self._ports():
            for other, other_address, other_port in taken:
                if port == other_port and values.overlap(address, other_address):
                    raise ValueError(f"{key}: {port} is the port of {other} already")
            taken.append((key, address, port))
        return self

    def _ports(self) -> list[tuple[str, str, int]]:
        ports = [
            (f"ingress.listeners.{number}.port", listener.address, listener.port)
            for number, listener in enumerate(self.ingress.listeners)
        ]
        admin = self.admin
        ports += [
            ("admin.ingress_port", admin.address, admin.ingress_port),
            ("admin.router_port", admin.address, admin.router_port),
            ("admin.delivery_port", admin.address, admin.delivery_port),
        ]
        return [entry for entry in ports if entry[2] != 0]
