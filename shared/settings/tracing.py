"""Traces, as configured."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from shared.settings import values
from shared.settings.section import CommaList, Section, in_units


class TracingSettings(Section):
    """One trace for each mail, from submission to the reply of the next hop (docs/tracing.md).

    Needs the extra `postroad[tracing]`.
    """

    endpoint: Annotated[str, AfterValidator(values.collector_url)] = Field(
        "",
        description="URL to which spans are sent (OTLP over HTTP), as "
        "`http://collector:4318/v1/traces`. Empty: no tracing.",
    )
    ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01,
        json_schema_extra=in_units("of all mails"),
        description="Mails that are traced, of those whose trace begins here.",
    )
    trusted_tenants: Annotated[tuple[str, ...], CommaList] = Field(
        (),
        description="Tenants whose clients, logged in or in a relay network, may name the trace of "
        "a mail in its header field `traceparent` and so decide whether it is recorded; `*`: all. "
        "Of others it is not read.",
    )
