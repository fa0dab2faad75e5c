"""Who may send, and what is offered to whom (pure).

`Rules` is what one listener was configured with; every decision is a function of it and of what
is known about the client. A decision that refuses returns the reply.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.messages.model import MessageClass
from shared.settings.accepting import ListenerAuth, ListenerSettings, ListenerTls, LongLines
from shared.settings.model import Settings
from shared.settings.values import Network
from shared.smtp.parameters import MailParameters, brought_by
from shared.smtp.paths import ReversePath
from shared.smtp.server_replies import (
    AUTH_DONE,
    AUTH_IN_TRANSACTION,
    AUTH_NEEDS_TLS,
    AUTH_NOT_OFFERED,
    AUTH_REQUIRED,
    BY_TOO_SHORT,
    RELAY_DENIED,
    SENDER_REFUSED,
    TLS_ACTIVE,
    TLS_NOT_OFFERED,
    TOO_LARGE,
    TOO_MANY_RECIPIENTS,
    ServerReply,
    greeting,
    hello,
)


class Senders(Protocol):
    """See `services.ingress.senders.Senders`."""

    def permits(self, address: str) -> bool:
        """Whether mail may be sent as `address`."""


MECHANISMS = ("PLAIN", "LOGIN")
EXTERNAL = "EXTERNAL"
OAUTHBEARER = "OAUTHBEARER"
LEAST_BY = 10
"""Seconds: what may be asked for with BY and mode R at least (RFC 2852). The queues take a part."""
MOST_AUTH_FAILURES = 5
"""Wrong passwords in one session."""


@dataclass(frozen=True, eq=False)
class Rules:
    """One listener's rules; there is one object a listener. Sizes are in octets."""

    hostname: str
    tls: ListenerTls
    auth: ListenerAuth
    auth_without_tls: bool
    oauth: bool
    relay_networks: tuple[Network, ...]
    tenant: str
    message_class: MessageClass
    max_message_bytes: int
    max_recipients: int
    max_mails_per_session: int
    max_errors: int
    max_commands: int
    folds_long_lines: bool


@dataclass(frozen=True, slots=True)
class User:
    """Who authenticated. `message_class` None leaves the choice to the listener.

    `senders` None permits every sender; each of the limits may be None for none. Size in octets.
    """

    username: str
    tenant: str
    message_class: MessageClass | None = None
    senders: Senders | None = None
    messages_per_hour: int | None = None
    recipients_per_hour: int | None = None
    connections: int | None = None
    max_message_bytes: int | None = None

    def may_send_as(self, address: str) -> bool:
        """Whether this address may stand in MAIL or From."""
        return self.senders is None or self.senders.permits(address)


def listener_rules(settings: Settings, listener: ListenerSettings) -> Rules:
    """The rules of one configured listener."""
    return Rules(
        hostname=settings.hostname,
        tls=listener.tls,
        auth=listener.auth,
        auth_without_tls=listener.auth_without_tls,
        oauth=settings.ingress.oauth is not None,
        relay_networks=listener.relay_networks,
        tenant=listener.tenant,
        message_class=listener.message_class,
        max_message_bytes=settings.ingress.max_message_bytes,
        max_recipients=settings.ingress.max_recipients,
        max_mails_per_session=settings.ingress.max_mails_per_session,
        max_errors=settings.ingress.max_errors,
        max_commands=max(settings.ingress.max_commands, 5 * settings.ingress.max_recipients),
        folds_long_lines=settings.ingress.long_lines is LongLines.FOLD,
    )


@functools.lru_cache(maxsize=4096)
def may_relay_from(rules: Rules, address: str) -> bool:
    """Whether a client at this IP address may relay without AUTH."""
    return is_in(address, rules.relay_networks)


def is_in(address: str, networks: Sequence[Network]) -> bool:
    """Whether an IP address lies in one of the networks, also as a v4-mapped one."""
    client = ipaddress.ip_address(address)
    if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped:
        client = client.ipv4_mapped
    return any(client in network for network in networks)


@functools.lru_cache(maxsize=64)
def banner(rules: Rules) -> ServerReply:
    """The first line of a session."""
    return greeting(rules.hostname)


@functools.lru_cache(maxsize=64)
def helo(rules: Rules) -> ServerReply:
    """The answer to HELO."""
    return hello(rules.hostname)


@functools.lru_cache(maxsize=256)
def ehlo(rules: Rules, secured: bool, authenticated: bool, certified: bool = False) -> ServerReply:
    """The answer to EHLO: what is offered in this state of the session."""
    return hello(rules.hostname, _extensions(rules, secured, authenticated, certified))


@functools.lru_cache(maxsize=256)
def parameters(
    rules: Rules, secured: bool, authenticated: bool, certified: bool = False
) -> frozenset[str]:
    """The parameters of MAIL and RCPT that this answer to EHLO permits.

    AUTH is not announced to whom it has let in, and AUTH= stays theirs (RFC 4954, 5).
    """
    lines = _extensions(rules, secured, authenticated, certified)
    return brought_by((*lines, "AUTH") if authenticated else lines)


def mechanisms(rules: Rules, secured: bool, certified: bool) -> tuple[str, ...]:
    """Of AUTH; EXTERNAL for a client whose certificate was verified (RFC 4422, A).

    A token never crosses in the clear (RFC 7628, 4), whatever a listener says of passwords.
    """
    tokens = (OAUTHBEARER,) if rules.oauth and secured else ()
    return (*MECHANISMS, *tokens, EXTERNAL) if certified else (*MECHANISMS, *tokens)


def _extensions(rules: Rules, secured: bool, authenticated: bool, certified: bool) -> Iterator[str]:
    yield "PIPELINING"
    yield f"SIZE {rules.max_message_bytes}"
    if check_starttls(rules, secured) is None:
        yield "STARTTLS"
    if check_auth(rules, secured, authenticated) is None:
        yield f"AUTH {' '.join(mechanisms(rules, secured, certified))}"
    yield "ENHANCEDSTATUSCODES"
    yield "8BITMIME"
    yield "SMTPUTF8"
    yield "CHUNKING"
    yield "BINARYMIME"
    yield "DSN"
    yield "MT-PRIORITY"
    if authenticated:
        yield f"DELIVERBY {LEAST_BY}"
    if secured:
        yield "REQUIRETLS"  # never in clear text (RFC 8689, 2)
    yield f"LIMITS RCPTMAX={rules.max_recipients} MAILMAX={rules.max_mails_per_session}"


def check_starttls(rules: Rules, secured: bool) -> ServerReply | None:
    """Why STARTTLS is refused (RFC 3207, 4)."""
    if secured:
        return TLS_ACTIVE
    return None if rules.tls is ListenerTls.STARTTLS else TLS_NOT_OFFERED


def check_auth(
    rules: Rules, secured: bool, authenticated: bool, in_transaction: bool = False
) -> ServerReply | None:
    """Why AUTH is refused (RFC 4954, 4)."""
    if rules.auth is ListenerAuth.NONE:
        return AUTH_NOT_OFFERED
    if not (secured or rules.auth_without_tls):
        return AUTH_NEEDS_TLS
    if authenticated:
        return AUTH_DONE
    return AUTH_IN_TRANSACTION if in_transaction else None


def check_sender(user: User, reverse_path: ReversePath) -> ServerReply | None:
    """Why a user may not send with this reverse-path. Notifications, with the null one, may go."""
    if reverse_path.is_null or user.may_send_as(reverse_path.address):
        return None
    return SENDER_REFUSED


def message_limit(rules: Rules, user: User | None) -> int:
    """Octets of a message, at most."""
    if user is None or user.max_message_bytes is None:
        return rules.max_message_bytes
    return min(rules.max_message_bytes, user.max_message_bytes)


def check_mail(
    rules: Rules, trusted: bool, user: User | None, parameters: MailParameters
) -> ServerReply | None:
    """Why MAIL is refused. `trusted`: authenticated, or in a network that may relay."""
    if not trusted and rules.auth is ListenerAuth.REQUIRED:
        return AUTH_REQUIRED
    by = parameters.by
    if by is not None and by.returns and by.seconds < LEAST_BY:
        return BY_TOO_SHORT
    return TOO_LARGE if parameters.size > message_limit(rules, user) else None


def check_recipient(rules: Rules, trusted: bool, recipients: int) -> ServerReply | None:
    """Why a further recipient is refused, after `recipients` were taken.

    Nothing is final here, so whoever may not relay may not send to any domain: no form of address
    makes a difference.
    """
    if not trusted:
        return RELAY_DENIED
    return TOO_MANY_RECIPIENTS if recipients >= rules.max_recipients else None
