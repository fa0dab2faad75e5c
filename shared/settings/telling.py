"""What is told of each mail to those who want to know, as configured."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field

from shared.settings.section import CommaList, Section, in_units
from shared.settings.units import Duration, parse_duration_ms


class Publish(StrEnum):
    """When events are published."""

    DEMAND = "demand"
    ALWAYS = "always"
    NEVER = "never"


class EventStoreSettings(Section):
    """Events that are kept, for `postroad message` (see docs/events.md)."""

    path: Path | None = Field(
        None,
        description="SQLite file on a local disk, made when it is missing. `postroad run` keeps "
        "it; elsewhere run `postroad event-store`. None: no events are kept.",
    )
    max_events: Annotated[int, Field(ge=1000, le=1_000_000_000)] = Field(
        1_000_000,
        json_schema_extra=in_units("events"),
        description="The oldest go when there are more. A million take up about 700 MB.",
    )
    max_age: Duration = Field(
        parse_duration_ms("7d"), description="Older ones go, however few there are."
    )


class EventSettings(Section):
    """What is told of each mail, as it happens (see docs/events.md)."""

    publish: Publish = Field(
        Publish.DEMAND,
        description="`demand`: while `postroad events --follow` or an event store follows. "
        "`always`: also where nobody of ours does, for queues of your own on the exchange "
        "`postroad.events`. `never`: not at all.",
    )
    guaranteed: Annotated[tuple[str, ...], CommaList] = Field(
        (),
        description="Tenants whose events are not lost: each is stored in the queue "
        "`postroad.events.guaranteed`, with what comes next for the mail, before custody moves. "
        "Somebody has to read that queue.",
    )
    buffer_bytes: Annotated[int, Field(ge=65_536, le=1 << 30)] = Field(
        4 << 20,
        json_schema_extra=in_units("octets"),
        description="Events that each process keeps while the broker does not take them; more are "
        "dropped and counted.",
    )
    store: EventStoreSettings = Field(
        default_factory=EventStoreSettings, description="Events that are kept."
    )
