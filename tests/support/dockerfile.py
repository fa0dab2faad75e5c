"""Reads a Dockerfile, as far as ours goes (pure): stages, their instructions, what they leave.

An instruction that it does not know is an error, so that a test which builds from it does all that
the file says.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BUILDING = frozenset({"FROM", "RUN", "COPY"})


@dataclass(frozen=True, slots=True)
class Instruction:
    """`rest` is what follows the keyword, on one line; `options` are its leading `--name=value`."""

    keyword: str
    rest: str
    options: Mapping[str, str]
    line: int


@dataclass(frozen=True, slots=True)
class Stage:
    """`base` is an image, or the name of an earlier stage."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]


@dataclass
class Config:
    """What a container starts with."""

    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    user: str = ""
    workdir: str = "/"
    stop_signal: str = ""


def instructions(text: str) -> Iterator[Instruction]:
    """One after the other; comments and line ends are gone."""
    parts: list[str] = []
    first = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (not line.strip() and not parts):
            continue
        first = first if parts else number
        parts.append(line.removesuffix("\\").strip())
        if not line.endswith("\\"):
            yield _instruction(" ".join(parts), first)
            parts = []


def _instruction(text: str, line: int) -> Instruction:
    keyword, _, rest = text.partition(" ")
    assert keyword in BUILDING | NOTES.keys(), f"line {line}: {keyword} is not known here"
    options = {}
    while found := re.match(r"--([\w-]+)=(\S+)\s+", rest):
        options[found[1]] = found[2]
        rest = rest[found.end() :]
    return Instruction(keyword, rest.strip(), options, line)


def stages(text: str) -> list[Stage]:
    """In order; the last one is the image."""
    found: list[tuple[str, str, list[Instruction]]] = []
    for one in instructions(text):
        if one.keyword == "FROM":
            base, _, name = one.rest.partition(" AS ")
            found.append((name.strip(), base.strip(), []))
        else:
            assert found, f"line {one.line}: {one.keyword} before FROM"
            found[-1][2].append(one)
    return [Stage(name, base, tuple(body)) for name, base, body in found]


def pairs(rest: str, known: Mapping[str, str]) -> dict[str, str]:
    """`NAME=value ...` of ENV, LABEL and ARG, with `$NAME` and `${NAME}` of `known` filled in."""
    filled = re.sub(r"\$\{?(\w+)\}?", lambda name: known.get(name[1], ""), rest)
    return {name: value for name, _, value in (one.partition("=") for one in shlex.split(filled))}


def words(rest: str) -> list[str]:
    """Of ENTRYPOINT, CMD, VOLUME: a JSON list, or words."""
    return [str(one) for one in json.loads(rest)] if rest.startswith("[") else shlex.split(rest)


def configured(stage: Stage) -> Config:
    """What this stage alone says of it; each ARG has its default."""
    config, arguments = Config(), dict[str, str]()
    for one in stage.instructions:
        note(one, config, arguments)
    return config


def note(one: Instruction, config: Config, arguments: dict[str, str]) -> None:
    """Add to `config` what the instruction says of it, and to `arguments` what ARG does."""
    if one.keyword == "ARG":
        arguments.update(pairs(one.rest, arguments | config.environment))
    elif one.keyword in NOTES:
        name, read = NOTES[one.keyword]
        value = read(one.rest, arguments | config.environment)
        before = getattr(config, name)
        setattr(config, name, {**before, **value} if isinstance(value, dict) else value)


NOTES: Mapping[str, tuple[str, Callable[[str, Mapping[str, str]], Any]]] = {
    "ARG": ("", pairs),
    "ENV": ("environment", pairs),
    "LABEL": ("labels", pairs),
    "ENTRYPOINT": ("entrypoint", lambda rest, _: words(rest)),
    "CMD": ("command", lambda rest, _: words(rest)),
    "HEALTHCHECK": ("healthcheck", lambda rest, _: words(rest.partition("CMD ")[2])),
    "VOLUME": ("volumes", lambda rest, _: words(rest)),
    "EXPOSE": ("ports", lambda rest, _: list(map(int, rest.split()))),
    "USER": ("user", lambda rest, _: rest),
    "WORKDIR": ("workdir", lambda rest, _: rest),
    "STOPSIGNAL": ("stop_signal", lambda rest, _: rest),
}
"""Which field an instruction sets, and how it is read."""


def run_lines(body: Sequence[Instruction]) -> list[str]:
    """What RUN hands to the shell."""
    return [one.rest for one in body if one.keyword == "RUN"]
