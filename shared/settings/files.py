"""A YAML file as a mapping, strictly: one document, no key twice. Errors name the place.

No error repeats a line of the file, since a line may hold a password.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class FileError(Exception):
    """The file cannot be used; the text is one line that names the file, and the line if known."""


class _StrictLoader(yaml.SafeLoader):
    """`SafeLoader` that refuses a key given twice: one of the two values would be ignored."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key_node.value!r} is given twice",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """The content of the YAML file at `path`. Raises `FileError`."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - safe
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileError(f"{path}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        raise FileError(f"{path}{_place(error.problem_mark)}: {error.problem}") from None
    except RecursionError:
        raise FileError(f"{path}: nested too deeply") from None
    except (yaml.YAMLError, ValueError):
        raise FileError(f"{path}: not YAML") from None


def _place(mark: yaml.Mark | None) -> str:
    return "" if mark is None else f", line {mark.line + 1}"
