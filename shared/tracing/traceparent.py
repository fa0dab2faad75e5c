"""The `traceparent` of W3C Trace Context (pure): which span of which trace caused something.

https://www.w3.org/TR/trace-context/#traceparent-header, version 00. A higher version is read as far
as it begins like version 00, as the standard asks; whatever else is wrong makes it worthless.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]*)?"
)
_SAMPLED = 1
LONGEST = 256
"""Characters of a value that are looked at: a later version may be longer than 55."""


@dataclass(frozen=True, slots=True)
class Traceparent:
    """`trace_id` has 32 hexadecimal digits, `span_id` 16, neither only zeros.

    `sampled`: who was there before records this trace.
    """

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"


def parse_traceparent(text: str) -> Traceparent | None:
    """The value, or None for anything that is not exactly one."""
    match = _FORM.fullmatch(text) if len(text) <= LONGEST else None
    if match is None or (match[1] == "00" and match[5] is not None):
        return None
    return Traceparent(match[2], match[3], bool(int(match[4], 16) & _SAMPLED))
