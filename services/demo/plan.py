"""What the demo sends, and what must become of it: pure, the same for the same seed.

Each message has a reverse-path of its own in `sender.test`, so that a DSN tells which message it
answers by the address it is sent to. The receivers' scripts stand beside the plan because both
must agree on who is refused.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from services.demo.script import Greylist, Script, Stage

SENDER_DOMAIN = "sender.test"
ID_HEADER = "X-Demo-Id"
DIGEST_HEADER = "X-Demo-Digest"
"""SHA-256 (hex) of what follows the header section."""

SMALLEST, LARGEST = 1_000, 200_000
MOST_RECIPIENTS = 5
REFUSED, LATER = "nobody", "later"
_WEIGHTS = {"fast.test": 10, "mixed.test": 4, "greylist.test": 2, "refuses.test": 2, "slow.test": 2}

SCRIPTS: Mapping[str, Script] = {
    "fast.test": Script(),
    "mixed.test": Script(refused=frozenset({REFUSED + "@"}), greylist=Greylist(prefix=LATER)),
    "greylist.test": Script(greylist=Greylist()),
    "refuses.test": Script(refused=frozenset({REFUSED + "@"})),
    "slow.test": Script(delays={Stage.MAIL: 0.02, Stage.DOT: 0.1}),
    SENDER_DOMAIN: Script(),
}
"""Each receiver of the demo by the domain it serves."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One message to send; `size` is that of its body in octets, roughly."""

    demo_id: str
    recipients: tuple[str, ...]
    size: int

    @property
    def reverse_path(self) -> str:
        """Unique to the message."""
        return f"{self.demo_id}@{SENDER_DOMAIN}"


def must_bounce(forward_path: str) -> bool:
    """Whether the receiver of this mailbox refuses it for good."""
    return forward_path.startswith(REFUSED + "@")


def plan_messages(run: str, count: int, random: Random) -> list[Planned]:
    """`count` messages of one to five recipients; sizes spread evenly over their logarithm."""
    return [
        Planned(f"{run}-{number}", _recipients(random), _size(random)) for number in range(count)
    ]


def _size(random: Random) -> int:
    return int(math.exp(random.uniform(math.log(SMALLEST), math.log(LARGEST))))


def _recipients(random: Random) -> tuple[str, ...]:
    domains = random.choices(
        list(_WEIGHTS), list(_WEIGHTS.values()), k=random.randint(1, MOST_RECIPIENTS)
    )
    addresses = (_mailbox(domain, index, random) for index, domain in enumerate(domains))
    return tuple(dict.fromkeys(addresses))


def _mailbox(domain: str, index: int, random: Random) -> str:
    chance = random.random()
    if SCRIPTS[domain].refused and chance < 0.3:
        return f"{REFUSED}@{domain}"
    if domain == "mixed.test" and chance < 0.6:
        return f"{LATER}{index}@{domain}"
    return f"user{random.randrange(100)}.{index}@{domain}"


class Contents:
    """Builds contents from a pool of random lines, some of which begin with dots."""

    def __init__(self, random: Random, date: str) -> None:
        """`date` is the value of every Date field."""
        self._date = date
        self._lines = [_line(random) for _ in range(2 * LARGEST // 78)]

    def build(self, planned: Planned) -> bytes:
        """Header section and body with CRLF line ends; not dot-stuffed."""
        start = int(planned.demo_id.rpartition("-")[2]) * 7 % (len(self._lines) // 2)
        body = b"".join(self._lines[start : start + max(1, planned.size // 78)])
        digest = hashlib.sha256(body).hexdigest()
        header = (
            f"Date: {self._date}\r\nFrom: <{planned.reverse_path}>\r\n"
            f"To: {', '.join(planned.recipients[:1])}\r\nSubject: Demo {planned.demo_id}\r\n"
            f"Message-ID: <{planned.reverse_path}>\r\n"
            f"{ID_HEADER}: {planned.demo_id}\r\n{DIGEST_HEADER}: {digest}\r\n\r\n"
        )
        return header.encode() + body


def _line(random: Random) -> bytes:
    dots = "." * (random.randrange(8) == 0) * random.randint(1, 2)
    return (dots + random.randbytes(38).hex()[: 76 - len(dots)]).encode() + b"\r\n"
