"""What ingress reads in the header section of a content, and the one line it takes out (pure).

Nothing else is parsed: not MIME, not the body. The look is bounded, so a content without an end
of its header section costs no more than another.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from shared.mail.trace import hop_count
from shared.messages.model import MessageClass

LONGEST_HEADER = 256 * 1024
"""Octets at the start of a content that are looked at."""
MOST_HOPS = 100
"""Received lines before we take it for a loop (RFC 5321, 6.3)."""

_NAME = b"x-postroad-class"
_FIELD = re.compile(
    rb"^X-Postroad-Class[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)\r\n", re.IGNORECASE | re.MULTILINE
)
_TRACEPARENT = re.compile(
    rb"^traceparent[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)\r\n", re.IGNORECASE | re.MULTILINE
)
_CLASSES = {message_class.encode(): message_class for message_class in MessageClass}


class Inspected(NamedTuple):
    """A content ready to go on; `message_class` is None where it names none."""

    content: bytes
    message_class: MessageClass | None
    looping: bool


def inspect(content: bytes) -> Inspected:
    """Take `X-Postroad-Class` out, whatever its value, and count the hops."""
    end = header_end(content)
    header = content[:end].lower()
    looping = hop_count(header) > MOST_HOPS
    if _NAME not in header:
        return Inspected(content, None, looping)
    values = [b"".join(match[1].split()).lower() for match in _FIELD.finditer(content, 0, end)]
    rest = _FIELD.sub(b"", content[:end]) + content[end:]
    named = [_CLASSES[value] for value in values if value in _CLASSES]
    return Inspected(rest, named[0] if named else None, looping)


def traceparent_of(content: bytes) -> str:
    """The value of the header field `traceparent`; empty where there is none, or more than one."""
    values = _TRACEPARENT.findall(content, 0, header_end(content))
    return values[0].strip(b" \t").decode("latin-1") if len(values) == 1 else ""


def class_of(priority: int) -> MessageClass | None:
    """What an MT-PRIORITY means here (RFC 6710): 0, the normal one, leaves it to the rules."""
    if not priority:
        return None
    return MessageClass.TRANSACTIONAL if priority > 0 else MessageClass.BULK


def header_end(content: bytes) -> int:
    """Where the last line of the header section ends."""
    if content.startswith(b"\r\n"):
        return 0
    end = content.find(b"\r\n\r\n", 0, LONGEST_HEADER)
    return end + 2 if end >= 0 else min(len(content), LONGEST_HEADER)
