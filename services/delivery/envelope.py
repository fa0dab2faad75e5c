"""The commands of an envelope, and what of it a peer cannot take (pure).

The last check of addresses before they go to another's server: a queue message may have been made
by hand, so nothing here trusts that ingress has looked. Content that needs 8 bits goes unchanged
to a peer without 8BITMIME, as most MTAs do: converting it would break signatures, and such peers
are 8-bit clean in practice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from services.delivery.deadline import by_parameter, deadline_obstacle
from services.delivery.secrecy import NEEDS_REQUIRETLS, is_secret
from shared.mail.headers import header_section
from shared.messages.model import DeliveryJob, DsnWishes
from shared.smtp.parameters import LONGEST_ORCPT
from shared.smtp.replies import Reply

TOO_LARGE = Reply(552, "5.3.4", "The message is larger than the next hop takes")
NEEDS_BINARYMIME = Reply(550, "5.6.1", "The next hop does not take binary contents")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "The next hop does not offer SMTPUTF8")

_PLAIN = re.compile(r"[^\x00-\x20\x7f<>\"]*")
_QUOTED = re.compile(r'"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*"@[^\x00-\x20\x7f<>"@]+')


def is_safe_path(address: str) -> bool:
    """Whether an address can stand between angle brackets and be nothing but an address."""
    if not (address.isascii() or address.isprintable()):
        return False
    return (_PLAIN.fullmatch(address) or _QUOTED.fullmatch(address)) is not None


def is_safe_envelope(job: DeliveryJob) -> bool:
    """Whether no path of the job can break out of its command; the null reverse-path is safe."""
    if not _is_safe_sender(job.reverse_path):
        return False
    for recipient in job.recipients:
        if not (recipient.address and is_safe_path(recipient.address)):
            return False
    return job.dsn is None or _are_safe_wishes(job, job.dsn)


def _are_safe_wishes(job: DeliveryJob, wishes: DsnWishes) -> bool:
    values = [wishes.ret, wishes.envid]
    for recipient in job.recipients:
        values += [recipient.notify, recipient.orcpt]
    return all(not value or (value.isprintable() and " " not in value) for value in values)


_is_safe_sender = lru_cache(maxsize=1024)(is_safe_path)
"""Senders come again and again, recipients do not."""


def obstacle(
    job: DeliveryJob, content: bytes, offered: Mapping[str, str], now: float = 0.0
) -> Reply | None:
    """Why this peer cannot take the job at all, None if it may.

    `now`, in seconds since the epoch, is for jobs with a time to be delivered by.
    """
    limit = offered.get("size", "")
    if limit.isdecimal() and 0 < int(limit[:20]) < len(content):
        return TOO_LARGE  # RFC 1870, 6.1; a limit of 0 means that there is none
    if job.binary and not ("binarymime" in offered and "chunking" in offered):
        return NEEDS_BINARYMIME
    if "smtputf8" not in offered and needs_smtputf8(job, content):
        return NEEDS_SMTPUTF8
    if "requiretls" not in offered and is_secret(job):
        return NEEDS_REQUIRETLS
    return None if job.deliver_by is None else deadline_obstacle(job.deliver_by, offered, now)


def needs_smtputf8(job: DeliveryJob, content: bytes) -> bool:
    """Whether only a peer with SMTPUTF8 can take the job (RFC 6531, 3.4).

    That the client asked for SMTPUTF8 does not count while addresses and headers are ASCII.
    """
    if not _is_ascii(job):
        return True
    return job.smtputf8 and not header_section(content).isascii()


def envelope_commands(
    job: DeliveryJob, offered: Mapping[str, str], now: float = 0.0
) -> list[bytes]:
    """MAIL with the parameters that the peer understands, and the RCPTs. `now`: see `obstacle`."""
    mail = f"MAIL FROM:<{job.reverse_path}>"
    if "size" in offered:
        mail += f" SIZE={job.content.size}"
    if job.binary:
        mail += " BODY=BINARYMIME"
    elif job.eight_bit and "8bitmime" in offered:
        mail += " BODY=8BITMIME"
    if "smtputf8" in offered and (job.smtputf8 or not _is_ascii(job)):
        mail += " SMTPUTF8"
    if job.require_tls and "requiretls" in offered:
        mail += " REQUIRETLS"
    if job.deliver_by is not None and "deliverby" in offered:
        mail += by_parameter(job.deliver_by, now)
    if job.dsn is not None and "dsn" in offered:
        return _with_wishes(mail, job, job.dsn, offered)
    commands = [f"{mail}\r\n".encode()]
    commands += [f"RCPT TO:<{recipient.address}>\r\n".encode() for recipient in job.recipients]
    return commands


def _with_wishes(
    mail: str, job: DeliveryJob, wishes: DsnWishes, offered: Mapping[str, str]
) -> list[bytes]:
    """With the parameters of RFC 3461: the next hop notifies in our place."""
    if wishes.ret:
        mail += f" RET={wishes.ret}"
    if wishes.envid:
        mail += f" ENVID={wishes.envid}"
    commands = [f"{mail}\r\n".encode()]
    for recipient in job.recipients:
        line = f"RCPT TO:<{recipient.address}>"
        if recipient.notify:
            line += f" NOTIFY={recipient.notify}"
        if recipient.orcpt and len(orcpt := _ascii_orcpt(recipient.orcpt)) <= LONGEST_ORCPT:
            line += f" ORCPT={orcpt}"  # a longer one would cost the recipient (RFC 3461, 4.2)
        commands.append(f"{line}\r\n".encode())
    return commands


def _ascii_orcpt(orcpt: str) -> str:
    """In the form that needs no SMTPUTF8 (RFC 6533, 3), which the path itself may not need."""
    if orcpt.isascii():
        return orcpt
    return "".join(
        each if each.isascii() and each not in "+=" else f"\\x{{{ord(each):X}}}" for each in orcpt
    )


def _is_ascii(job: DeliveryJob) -> bool:
    if not job.reverse_path.isascii():
        return False
    for recipient in job.recipients:  # noqa: SIM110 - in the way of every message
        if not recipient.address.isascii():
            return False
    return True
