"""What the comments of values.yaml say of its keys (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

MARK = "# -- "


@dataclass(frozen=True, slots=True)
class Value:
    """A documented key: its path, default and meaning, and whether keys below it are documented."""

    path: str
    default: Any
    meaning: str
    has_documented_keys: bool = False


def documented(text: str) -> list[Value]:
    """Every documented key of `text`, in its order.

    A key is documented by a comment right above it that begins with `# -- `, or by that of a
    mapping it is in, if the mapping explains all of its keys. Raises ValueError for any other.
    """
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    return list(_below(root, "", text.splitlines(), yaml.safe_load(text)))


def _below(
    node: yaml.MappingNode, path: str, lines: list[str], values: Mapping[str, Any]
) -> Iterator[Value]:
    for key, value in node.value:
        name = f"{path}.{key.value}".lstrip(".")
        meaning = _comment_above(lines, key.start_mark.line)
        default = values[key.value]
        inner = isinstance(value, yaml.MappingNode) and bool(value.value) and not value.flow_style
        if inner and (not meaning or _any_documented(value, lines)):
            if meaning:
                yield Value(name, None, meaning, has_documented_keys=True)
            yield from _below(value, name, lines, default)
        elif meaning:
            yield Value(name, default, meaning)
        else:
            raise ValueError(f"{name} has no comment that begins with {MARK!r}")


def _any_documented(node: yaml.MappingNode, lines: list[str]) -> bool:
    return any(
        _comment_above(lines, key.start_mark.line)
        or (isinstance(value, yaml.MappingNode) and _any_documented(value, lines))
        for key, value in node.value
    )


def _comment_above(lines: list[str], line: int) -> str:
    found: list[str] = []
    for text in map(str.strip, reversed(lines[:line])):
        if not text.startswith("#"):
            break
        found.insert(0, text)
        if text.startswith(MARK):
            return " ".join([found[0].removeprefix(MARK), *(t.lstrip("# ") for t in found[1:])])
    return ""
