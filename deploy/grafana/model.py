"""What a dashboard is, as values: boards have rows, rows have panels, panels have queries.

Nothing here knows Grafana. Expressions may use `$namespace`, `$lane`, `$class`, `$provider` and
`$__rate_interval`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Shape(StrEnum):
    """How a panel shows its answers."""

    LINES = "lines"
    STACK = "stack"
    NUMBER = "number"
    BARS = "bars"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Query:
    """`legend` may use labels: `{{lane}}`. `instant` asks for now only."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture and what it means.

    `unit` is Grafana's name of it. `steps` are thresholds: from the value on, that colour; the
    first colour holds below. `leads_to` are uids of boards, `runbooks` names of alerts. A panel is
    `width` of 24 columns wide.
    """

    title: str
    meaning: str
    queries: Sequence[Query]
    unit: str
    shape: Shape = Shape.LINES
    width: int = 8
    steps: Sequence[tuple[float | None, str]] = ((None, "green"),)
    most: float | None = None
    leads_to: Sequence[str] = ()
    runbooks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A question, and the panels that answer it."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """`uid` never changes: links hold it. `variables`: beside the data source and the namespace."""

    uid: str
    title: str
    meaning: str
    rows: Sequence[Row]
    variables: Sequence[str] = ()
