"""What all parts of the configuration are made of."""

from __future__ import annotations

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, JsonValue

from shared.settings import values

CommaList = BeforeValidator(values.comma_list)
AtLeastOne = AfterValidator(values.at_least_one)


def in_units(name: str) -> dict[str, JsonValue]:
    """Marks a field with the unit that the reference page shows."""
    return {"unit": name}


class Section(BaseModel):
    """A part of the configuration: immutable, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
