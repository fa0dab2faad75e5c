"""Events as lines of JSON, and the routing keys under which they are told (pure).

A message on the exchange has one line or more, all of them with the same routing key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

import msgspec

from shared.events.model import SCHEMA, MailEvent
from shared.log_text import to_json

NONE = "none"
"""Stands in a routing key for what is not known yet."""
LONGEST_WORD = 60
"""Octets of a word in a routing key, of which AMQP allows 255 in all."""
ANY_WORD, ANY_WORDS = "*", "#"

_decoder = msgspec.json.Decoder(MailEvent)


class EventError(ValueError):
    """The octets are no event that this version reads."""


def encode_event(event: MailEvent) -> bytes:
    """One line without its line feed, and without control characters, whatever text it holds."""
    return to_json(event)


def decode_event(line: bytes) -> MailEvent:
    """The event in a line. Raises `EventError`."""
    try:
        event = _decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EventError(str(error)) from error
    if event.schema > SCHEMA:
        raise EventError(f"schema {event.schema} is newer than {SCHEMA}")
    return event


def lines_of(body: bytes) -> Sequence[bytes]:
    """The lines of a message."""
    return [line for line in body.split(b"\n") if line]


def count_lines(told: Iterable[tuple[str, bytes]]) -> int:
    """How many events are told."""
    return sum(body.count(b"\n") + 1 for _, body in told)


def word(text: str) -> str:
    """`text` as one word of a routing key: what could mean something else there is %-encoded."""
    if text.isalnum() and text.isascii() and len(text) <= LONGEST_WORD:
        return text
    quoted = quote(text, safe="", errors="replace").replace(".", "%2E")
    return quoted[:LONGEST_WORD] or NONE


def routing_key(event: str, tenant: str, class_: str, provider: str) -> str:
    """`<event>.<tenant>.<class>.<provider>`."""
    return ".".join(map(word, (event, tenant, class_, provider)))


def pattern(event: str = "", tenant: str = "") -> str:
    """What the exchange is to compare routing keys with: all, or those of an event or tenant."""
    if not (event or tenant):
        return ANY_WORDS
    return f"{word(event) if event else ANY_WORD}.{word(tenant) if tenant else ANY_WORD}.#"


def matches(wanted: str, key: str) -> bool:
    """Whether a routing key is what a pattern wants, as a topic exchange decides it.

    `*` stands for one word; `#`, which may only come last here, for any number of them.
    """
    words, keys = wanted.split("."), key.split(".")
    if words[-1] == ANY_WORDS:
        words.pop()
        keys = keys[: len(words)]
    return len(words) == len(keys) and all(
        want in (ANY_WORD, have) for want, have in zip(words, keys, strict=True)
    )
