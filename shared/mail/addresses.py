"""The addresses in a From header and its kind (RFC 5322, 3.4; pure): a mailbox list, as values.

Comments and quoted names are skipped, the members of a group are found. An address must be one that
a reverse-path could have, and an unquoted name has no address of its own: some readers would take
that one for the sender, so that a header would say something else than its check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from shared.smtp.errors import ProtocolError
from shared.smtp.paths import parse_reverse_path

MOST_ADDRESSES = 100

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]++)
      | <[ \t]*+(?:@[^<>":]*+:)?+(?P<angle>(?:"(?:[^"\\]|\\.)*+"|[^<>"\s])*+)[ \t]*+>
      | (?P<mark>[,;:])
      | (?P<word>"(?:[^"\\]|\\.)*+"|\[[^\[\]\\]*+\]|[^\s()<>@,;:\\"\[\]]++|@)""",
    re.VERBOSE | re.DOTALL,
)
_AROUND = re.compile(r" *([@.]) *")


def mailboxes(value: str) -> tuple[str, ...]:
    """The addresses in the value of a header. Raises ValueError if it is not a list of mailboxes.

    `value` may be folded.
    """
    found: list[str] = []
    words: list[str] = []
    angles: list[str] = []
    in_group = False
    for kind, text in _tokens(value):
        if kind == "angle":
            angles.append(text)
        elif kind != "mark":
            if angles and text != " ":
                raise ValueError("text after the brackets of an address")
            if text[0] == "[" and "".join(words).rstrip()[-1:] != "@":
                raise ValueError("square brackets that are no domain")
            words.append(text)
        elif text == ":":
            _check_group(words, angles, in_group)
            words, in_group = [], True
        else:
            in_group = in_group and text != ";"
            found += _address(words, angles)
            words, angles = [], []
    found += _address(words, angles)
    if len(found) > MOST_ADDRESSES:
        raise ValueError("too many addresses")
    return tuple(found)


def _tokens(value: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(value):
        if value[at] == "(":
            at = _after_comment(value, at)
            yield "space", " "
            continue
        match = _TOKEN.match(value, at)
        if match is None or match.lastgroup is None:
            raise ValueError("not a list of mailboxes")
        kind = match.lastgroup
        yield kind, " " if kind == "space" else match[kind]
        at = match.end()


def _after_comment(value: str, at: int) -> int:
    depth = 0
    while at < len(value):
        character = value[at]
        depth += (character == "(") - (character == ")")
        at += 2 if character == "\\" else 1
        if not depth:
            return at
    raise ValueError("a comment without an end")


def _check_group(words: list[str], angles: list[str], in_group: bool) -> None:
    """Before a colon stands the name of a group, and no address; a group has none within."""
    if in_group or angles or "@" in words or not "".join(words).strip():
        raise ValueError("no name of a group, an address in it, or a group in a group")


def _address(words: list[str], angles: list[str]) -> tuple[str, ...]:
    """The one address between two commas, if there is any."""
    if len(angles) > 1:
        raise ValueError("two addresses without a comma")
    text = _AROUND.sub(r"\1", "".join(words)).strip()
    if angles:
        # Many programs put the address itself where the name belongs, unquoted.
        if "@" in words and text.lower() != angles[0].lower():
            raise ValueError("a name that is another address")
        text = angles[0]
    return (_sound(text),) if text or angles else ()


def _sound(address: str) -> str:
    try:
        path, rest = parse_reverse_path(f"<{address}>")
    except ProtocolError:
        raise ValueError("not an address") from None
    if rest or path.is_null:
        raise ValueError("not an address")
    return path.address
