"""What a PromQL expression names: metrics, the labels that select, and those that it groups by.

Not a parser: Prometheus itself says whether an expression is one. This only finds the names in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_TEXT = r'"(?:[^"\\]|\\.)*"'
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)?\s*\{((?:[^{}\"]|" + _TEXT + r")*)\}")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*(" + _TEXT + ")")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_IDENTIFIER = re.compile(r"(?<![\w:.\"])([a-zA-Z_:][\w:]*)(?![\w:]|\s*\()")
_WORDS = {
    "and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right",
    "offset", "bool", "inf", "nan",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """`metrics` by name, each with its matchers `(label, operator, value)`; `grouped` by labels."""

    metrics: Mapping[str, tuple[tuple[str, str, str], ...]]
    grouped: frozenset[str]


def names_in(expression: str) -> Named:
    """All names in an expression without variables of a dashboard."""
    metrics: dict[str, tuple[tuple[str, str, str], ...]] = {}
    grouped: set[str] = set()

    def take_selector(match: re.Match[str]) -> str:
        name, matchers = match[1] or "", tuple(_matchers(match[2]))
        metrics[name] = metrics.get(name, ()) + matchers
        return " "

    def take_grouping(match: re.Match[str]) -> str:
        grouped.update(label.strip() for label in match[2].split(",") if label.strip())
        return " "

    rest = _SELECTOR.sub(take_selector, expression)
    rest = re.sub(_TEXT, " ", rest)
    rest = re.sub(r"\[[^\]]*\]", " ", rest)
    rest = _GROUPING.sub(take_grouping, rest)
    for match in _IDENTIFIER.finditer(rest):
        if match[1].lower() not in _WORDS:
            metrics.setdefault(match[1], ())
    return Named(metrics, frozenset(grouped))


def _matchers(text: str) -> Iterator[tuple[str, str, str]]:
    for match in _MATCHER.finditer(text):
        yield match[1], match[2], match[3][1:-1]
