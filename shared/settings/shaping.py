"""How mail is shaped on its way out: providers, lanes and limits, as configured (pure)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from shared.messages.model import MessageClass
from shared.settings import values
from shared.settings.section import AtLeastOne, CommaList, Section, in_units

DEFAULT_LANE = "default"
OTHER_PROVIDER = "other"

Name = Annotated[str, AfterValidator(values.short_name)]
Domain = Annotated[str, AfterValidator(values.site_domain)]
Names = Annotated[tuple[Name, ...], CommaList]
Domains = Annotated[tuple[Domain, ...], CommaList]
Texts = Annotated[tuple[str, ...], CommaList]


class ProviderSettings(Section):
    """A mail provider, known by the names of its mail exchangers."""

    name: Name = Field(description="Name in `match`, metrics and logs.")
    mx: Annotated[
        tuple[Annotated[str, AfterValidator(values.host_name)], ...], AtLeastOne, CommaList
    ] = Field(description="A mail exchanger with one of these names, or below it, is theirs.")
    one_site: bool = Field(
        True,
        description="All domains at this provider are one site, whatever their exchangers are "
        "called. `false`: a site for each set of exchangers.",
    )


class LaneMatch(Section):
    """Which mail a lane takes: every key that is given has to hold, by any one of its values."""

    providers: Names = Field((), description="Providers, `other` among them.")
    sites: Texts = Field((), description="Sites, by the name that logs show.")
    domains: Domains = Field(
        (), description="Recipient domains. A domain named here is a site of its own."
    )
    tenants: Texts = Field((), description="Tenants.")
    classes: Annotated[tuple[MessageClass, ...], CommaList] = Field(
        (), description="Message classes: `transactional`, `bulk`."
    )


class LaneSettings(Section):
    """One lane: its queues are served by workers of its own."""

    name: Name = Field(description="Name in queues, metrics and `postroad delivery --lane`.")
    match: LaneMatch = Field(
        default_factory=LaneMatch, description="Which mail; nothing for `default`."
    )
    partitions: Annotated[int, Field(ge=1, le=256)] = Field(
        8,
        json_schema_extra=in_units("queues"),
        description="Queues of each class. Each is served by one worker at a time, so this is "
        "also the most workers that can share the lane.",
    )
    spread: Annotated[int, Field(ge=1, le=256)] = Field(
        1,
        json_schema_extra=in_units("queues"),
        description="Partitions over which each site of this lane is spread, its limits divided "
        "among them. For a giant that is too much for one worker.",
    )

    @model_validator(mode="after")
    def _can_be_spread(self) -> Self:
        if self.spread > self.partitions:
            raise ValueError(f"spread is {self.spread}, but there are {self.partitions} partitions")
        return self


def check_lanes(lanes: tuple[LaneSettings, ...]) -> tuple[LaneSettings, ...]:
    """The lanes with `default` at the end. Raises ValueError for lanes that make no sense."""
    names = [lane.name for lane in lanes]
    if len(set(names)) < len(names):
        raise ValueError("two lanes have the same name")
    for lane in lanes:
        if lane.name != DEFAULT_LANE and not any(lane.match.model_dump().values()):
            raise ValueError(f"{lane.name}: match is empty, which is for the lane `default` only")
        if lane.name == DEFAULT_LANE and any(lane.match.model_dump().values()):
            raise ValueError("default: takes what no other lane takes, so it has no match")
    given = tuple(lane for lane in lanes if lane.name == DEFAULT_LANE)
    others = tuple(lane for lane in lanes if lane.name != DEFAULT_LANE)
    return (*others, *(given or (LaneSettings(name=DEFAULT_LANE),)))


Connections = Annotated[int, Field(ge=1, le=10_000)]
Transactions = Annotated[int, Field(ge=1, le=1_000_000)]
Recipients = Annotated[int, Field(ge=1, le=1000)]
Rate = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
PerMinute = Annotated[int, Field(ge=0, le=1_000_000)]


class SiteLimits(Section):
    """What one site is sent at most, by all workers together."""

    connections: Connections = Field(
        20, json_schema_extra=in_units("connections"), description="Connections at a time."
    )
    messages_per_connection: Transactions = Field(
        100,
        json_schema_extra=in_units("transactions"),
        description="Transactions before a connection is closed.",
    )
    recipients_per_transaction: Recipients = Field(
        100, json_schema_extra=in_units("recipients"), description="Recipients of one transaction."
    )
    messages_per_second: Rate = Field(
        0, json_schema_extra=in_units("transactions/s"), description="Evenly paced; 0: no limit."
    )
    connections_per_minute: PerMinute = Field(
        0,
        json_schema_extra=in_units("connections/min"),
        description="Connections opened in any minute; 0: no limit.",
    )


class LimitMatch(Section):
    """Which sites an override is for: every key that is given has to hold, by any of its values."""

    providers: Names = Field((), description="Providers, `other` among them.")
    sites: Texts = Field((), description="Sites, by the name that logs show.")
    domains: Domains = Field(
        (), description="Recipient domains. A domain named here is a site of its own."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError("is empty: for every site there is limits.default")
        return self


class LimitOverride(Section):
    """Other limits for some sites; a key that is not given stays as it is."""

    match: LimitMatch = Field(description="Which sites.")
    connections: Connections | None = Field(
        None, json_schema_extra=in_units("connections"), description="See `limits.default`."
    )
    messages_per_connection: Transactions | None = Field(
        None, json_schema_extra=in_units("transactions"), description="See `limits.default`."
    )
    recipients_per_transaction: Recipients | None = Field(
        None, json_schema_extra=in_units("recipients"), description="See `limits.default`."
    )
    messages_per_second: Rate | None = Field(
        None, json_schema_extra=in_units("transactions/s"), description="See `limits.default`."
    )
    connections_per_minute: PerMinute | None = Field(
        None, json_schema_extra=in_units("connections/min"), description="See `limits.default`."
    )


class LimitsSettings(Section):
    """What sites are sent at most. Read again whenever the file changes, without a restart."""

    default: SiteLimits = Field(
        default_factory=SiteLimits, description="For every site that nothing else is said of."
    )
    overrides: tuple[LimitOverride, ...] = Field(
        (), description="Every override that matches counts, a later one more than an earlier."
    )
