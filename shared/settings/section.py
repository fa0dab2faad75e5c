"""What all parts of the configuration are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from shared.settings import values

CommaList = BeforeValidator(values.comma_list)
AtLeastOne = AfterValidator(values.at_least_one)


def in_units(name: str) -> dict[str, JsonValue]:
    """Marks a field with the unit that the reference page shows."""
    return {"unit": name}


class Section(BaseModel):
    """A part of the configuration: immutable, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Port = Annotated[int, Field(ge=1, le=65535)]
PortOrFree = Annotated[int, Field(ge=0, le=65535)]
Address = Annotated[str, AfterValidator(values.ip_address)]
Network = Annotated[values.Network, BeforeValidator(values.network)]
