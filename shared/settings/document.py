"""Writes `docs/configuration.md` from the settings models, so that the page cannot be out of date.

`make docs` prints the page into the file; a test compares the two. Type, default, unit and
meaning all come from the models: nothing is said here a second time.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import yaml
from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, SecretStr, TypeAdapter
from pydantic.fields import FieldInfo

from shared.settings import units, values
from shared.settings.load import ENV_DELIMITER, ENV_PREFIX
from shared.settings.model import Settings
from shared.settings.section import Section

EXAMPLE = Path("deploy/postroad.yaml")

INTRODUCTION = """\
# Configuration

This page is generated from the settings models (`make docs`); a test keeps it so.

One YAML file, named by `--config FILE` or `POSTROAD_CONFIG`, configures all three services.
Every key has a default except those marked *required*, and an unknown key is an error.
`postroad check-config` reads the file and says in one line what is wrong with it.

Every key can be overridden by an environment variable: `broker.url` is `POSTROAD_BROKER__URL`.
A list is written as YAML or JSON there (`[1m, 5m]`), and a list of simple values also with commas
(`1m,5m`). Variables without a double underscore that name no key are ignored.

A variable may be a file as well: `POSTROAD_SECRETS_DIR` names a folder, and a file in it that is
called `POSTROAD_BROKER__URL` has the value of that variable. It is for passwords, as Docker and
Kubernetes mount secrets. A variable in the environment comes before the file, and both before the
configuration file.

A duration is a whole number and a unit: `500ms`, `90s`, `15m`, `72h`, `3d`; at most `49d`.
"""

_WORDS: dict[Callable[..., object], str] = {
    values.broker_url: "URL",
    values.store_url: "URL",
    values.endpoint_url: "URL",
    values.collector_url: "URL",
    values.host_name: "host name",
    values.ip_address: "IP address",
    values.network: "network",
    values.nameserver: "address:port",
    values.route_host: "host:port",
    values.gateway: "host:port",
    values.route_domain: "domain",
    values.site_domain: "domain",
    values.short_name: "name",
    units.duration: "duration",
}


def configuration_page(example: str) -> str:
    """The whole page, as Markdown; `example` is a configuration file."""
    parts = [INTRODUCTION, f"## Example\n\n```yaml\n{example}```\n"]
    parts += [_section(path, section) for path, section in sections()]
    return "\n".join(parts)


def sections() -> Iterator[tuple[str, type[Section]]]:
    """Every section with its path; `[]` marks the entries of a list. The root has no path."""
    yield from _below("", Settings)


def _below(path: str, section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    yield path, section
    for key, field in section.model_fields.items():
        inner, mark = _inner_section(field.annotation)
        if inner is not None:
            yield from _below(f"{path}.{key}{mark}".lstrip("."), inner)


def _inner_section(annotation: object) -> tuple[type[Section] | None, str]:
    """The section a field holds, if it holds one; `[]` when it holds a list of them."""
    annotation = _required(annotation)
    mark = ""
    if get_origin(annotation) is tuple:
        annotation, mark = get_args(annotation)[0], "[]"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, mark
    return None, ""


def _required(annotation: object) -> object:
    """`X` for `X | None`."""
    if get_origin(annotation) in {Union, types.UnionType}:
        rest = [part for part in get_args(annotation) if part is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return annotation


def _section(path: str, section: type[Section]) -> str:
    title = f"## `{path}`" if path else "## Top level"
    rows = [row(path, key, field) for key, field in section.model_fields.items()]
    lines = [f"{title}\n", f"{section.__doc__}\n"]
    lines += ["| Key | Type | Default | Unit | Meaning |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows if cells]
    return "\n".join(lines) + "\n"


def row(path: str, key: str, field: FieldInfo) -> tuple[str, ...]:
    """The cells of one key: name and variable, type, default, unit, meaning."""
    name = f"{path}.{key}".lstrip(".")
    inner, _ = _inner_section(field.annotation)
    words = "list of sections" if inner and _is_list(field) else "section" if inner else None
    return (
        _name_cell(name),
        words or _type_words(field.annotation, tuple(field.metadata)),
        _default(field, inner),
        _unit(field),
        (field.description or "").replace("|", "\\|"),
    )


def _name_cell(name: str) -> str:
    if "[]" in name:
        return f"`{name}`"
    variable = ENV_PREFIX + name.replace(".", ENV_DELIMITER).upper()
    return f"`{name}`<br>`{variable}`"


def _is_list(field: FieldInfo) -> bool:
    return get_origin(_required(field.annotation)) is tuple


def _type_words(annotation: object, metadata: tuple[object, ...]) -> str:
    for mark in metadata:
        if isinstance(mark, (AfterValidator, BeforeValidator)) and mark.func in _WORDS:
            return _WORDS[mark.func]
    annotation = _required(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *marks = get_args(annotation)
        return _type_words(inner, (*metadata, *marks))
    if origin is tuple:
        return f"list of {_plural(_type_words(get_args(annotation)[0], ()))}"
    if origin is Literal:
        return _choice(get_args(annotation))
    if origin is dict:
        return f"mapping of names to {_type_words(get_args(annotation)[1], ())}"
    return _simple_words(annotation, metadata)


def _plural(word: str) -> str:
    return word if ":" in word or "`" in word else f"{word}s"


def _simple_words(annotation: object, metadata: tuple[object, ...]) -> str:
    if annotation in {int, float}:
        return _number("whole number" if annotation is int else "number", metadata)
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return _choice(tuple(annotation))
    words = {bool: "`true` or `false`", str: "text", SecretStr: "text", Path: "path of a file"}
    return words[cast("type", annotation)]


def _choice(choices: tuple[str, ...]) -> str:
    marked = [f"`{choice}`" for choice in choices]
    return f"{', '.join(marked[:-1])} or {marked[-1]}"


def _number(word: str, metadata: tuple[object, ...]) -> str:
    bounds = [*metadata, *(part for mark in metadata for part in getattr(mark, "metadata", ()))]
    least = next((mark.ge for mark in bounds if isinstance(mark, Ge)), None)
    most = next((mark.le for mark in bounds if isinstance(mark, Le)), None)
    if most is not None:
        return f"{word}, {least} to {most}"
    return f"{word}, at least {least}" if least is not None else word


def _default(field: FieldInfo, inner: type[Section] | None) -> str:
    if field.is_required():
        return "*required*"
    if inner is not None and not _is_list(field):
        return "see below" if field.default is not None or field.default_factory else "none"
    default = field.get_default()
    if default is None:
        return "none"
    # The annotation is a value here, which mypy cannot follow.
    adapter: TypeAdapter[Any] = TypeAdapter(_with_marks(field))
    return f"`{_as_yaml(adapter.dump_python(default, mode='json', exclude_defaults=True))}`"


def _with_marks(field: FieldInfo) -> Any:
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def _as_yaml(value: object) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True
    )
    return text.strip().removesuffix("...").strip()


def _unit(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict):
        return str(extra["unit"])
    kind = _type_words(field.annotation, tuple(field.metadata)) if not _holds(field) else ""
    return "time" if "duration" in kind else ""


def _holds(field: FieldInfo) -> bool:
    return _inner_section(field.annotation)[0] is not None


if __name__ == "__main__":
    sys.stdout.write(configuration_page(EXAMPLE.read_text(encoding="utf-8")))
