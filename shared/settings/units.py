"""Values with units as people write them: `90s`, `5m`, `72h`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
LONGEST_MS = 49 * _MILLISECONDS["d"]
"""The longest delay that a broker queue can hold: RabbitMQ counts milliseconds in 32 bits."""
_DURATION = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")


def parse_duration_ms(text: object) -> int:
    """Milliseconds of a duration such as `15m`. Raises ValueError for anything else."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write 500ms, 30s, 5m, 2h or 3d")
    return int(match[1]) * _MILLISECONDS[match[2]]


def format_duration(milliseconds: int) -> str:
    """The exact text in the largest unit up to hours: 90000 is `90s`, 300000 is `5m`."""
    for unit in ("h", "m", "s"):
        if milliseconds and milliseconds % _MILLISECONDS[unit] == 0:
            return f"{milliseconds // _MILLISECONDS[unit]}{unit}"
    return f"{milliseconds}ms"


def duration(value: object) -> int:
    """Milliseconds of a duration in the configuration: more than none, and a broker can hold it."""
    milliseconds = parse_duration_ms(value)
    if not 1 <= milliseconds <= LONGEST_MS:
        raise ValueError(f"{value!r} is not between 1ms and 49d")
    return milliseconds


Duration = Annotated[
    int, BeforeValidator(duration), PlainSerializer(format_duration, return_type=str)
]
"""A duration: text in the configuration, milliseconds in the code."""
